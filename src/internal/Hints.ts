/**
 * Wake-up hints for readers that wait for appends: coalescing latches, one for each waiting reader. A hint says that
 * looking may be worthwhile, never that there is something, so losing a hint loses no event.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

interface Latch {
  open: boolean
  wake: (() => void) | undefined
}

export class Hints {
  private readonly latches = new Set<Latch>()

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
