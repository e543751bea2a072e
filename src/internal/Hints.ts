/**
 * Wake-up hints for readers that wait for appends: coalescing latches, one for each waiting reader. A hint says that a
 * look may be worth while, never that there is something; so nothing is lost when one is.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

interface Latch {
  open: boolean
  wake: (() => void) | undefined
}

export class Hints {
  private readonly latches = new Set<Latch>()

  /** Whether anybody listens. */
  get listened(): boolean {
    return this.latches.size > 0
  }

  signal(): void {
    for (const latch of this.latches) {
      latch.open = true
      latch.wake?.()
    }
  }

  /** Registers until the scope closes; the effect it gives waits for a hint given since it was last run. */
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
          // A hint taken and then interrupted must not be lost to the next wait, so the latch is only closed by `wake`.
          if (latch.wake === wake) latch.wake = undefined
          else latch.open = true
        })
      })
    )
  )
}
