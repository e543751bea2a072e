/**
 * What keeps callers from waiting for a backend that is down: after a failure it is left alone for a while, then asked
 * by one probe in the background, and used again when that succeeds.
 */
import * as Effect from "effect/Effect"

/** A server's restart takes longer than this, and users notice no recovery that takes less. */
const pauseMs = 500

export class Breaker {
  private state: "closed" | "open" | "probing" = "closed"
  private since = 0

  constructor(private readonly enabled: boolean) {}

  get isOpen(): boolean {
    return this.state !== "closed"
  }

  trip(): void {
    if (!this.enabled) return
    this.state = "open"
    this.since = performance.now()
  }

  /** Runs the probe when it is time for one. The caller goes on without waiting for it. */
  probe<E>(probe: Effect.Effect<unknown, E>): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.state !== "open" || performance.now() - this.since < pauseMs) return Effect.void
      this.state = "probing"
      return Effect.asVoid(
        Effect.forkDaemon(
          Effect.onExit(Effect.interruptible(probe), (exit) =>
            Effect.sync(() => {
              if (exit._tag === "Success") this.state = "closed"
              else this.trip()
            })
          )
        )
      )
    }).pipe(Effect.uninterruptible)
  }
}
