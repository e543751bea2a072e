/**
 * Wake-up hints for readers that wait for appends: coalescing latches, one for each waiting reader. A hint says that
 * looking may be worthwhile, never that there is something, so losing a hint loses no event.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** At most one report to the other processes in this time; appends in between share the next. */
const coalesceMs = 20

interface Latch {
  open: boolean
  wake: (() => void) | undefined
}

export class Hints {
  private readonly latches = new Set<Latch>()
  private timer: NodeJS.Timeout | undefined
  private again = false

  /** `tell` tells the other processes. It is not awaited, and may fail. */
  constructor(private readonly tell: () => void = () => {}) {}

  /** Whether any reader is registered. */
  get listened(): boolean {
    return this.latches.size > 0
  }

  signal(): void {
    for (const latch of this.latches) {
      latch.open = true
      latch.wake?.()
    }
  }

  /** This process has committed an append. */
  appended(): void {
    this.signal()
    if (this.timer === undefined) this.report()
    else this.again = true
  }

  private report(): void {
    this.tell()
    this.timer = setTimeout(() => {
      this.timer = undefined
      if (this.again) {
        this.again = false
        this.report()
      }
    }, coalesceMs).unref()
  }

  close(): void {
    clearTimeout(this.timer)
  }

  /** Registers until the scope closes. The effect it returns waits for a hint given since it last ran. */
  readonly register: Effect.Effect<Effect.Effect<void>, never, Scope.Scope> = Effect.acquireRelease(
    Effect.sync(() => {
      const latch: Latch = { open: false, wake: undefined }
      this.latches.add(latch)
      return latch
    }),
    (latch) => Effect.sync(() => this.latches.delete(latch))
  ).pipe(
    Effect.map((latch) =>
      Effect.async<void>((resume) => {
        const wake = () => {
          latch.open = false
          latch.wake = undefined
          resume(Effect.void)
        }
        if (latch.open) wake()
        else latch.wake = wake
        return Effect.sync(() => {
          // If a wait is interrupted after its hint, the next wait must still see the hint, so only `wake` closes the
          // latch.
          if (latch.wake === wake) latch.wake = undefined
          else latch.open = true
        })
      })
    )
  )
}
