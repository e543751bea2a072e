/**
 * Who writes now: one at a time, in the order of arrival.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { PoolTimeout, type ReadFailure } from "../../Errors.js"

/** As long as stores elsewhere wait for a connection. In real time: a test's clock would stand still for ever. */
const waitMaxMs = 10_000

export class Gate {
  private taken = false
  private draining = false
  private readonly line = new Set<() => void>()

  get isFree(): boolean {
    return !this.taken
  }

  tryTake(): boolean {
    if (this.taken) return false
    this.taken = true
    return true
  }

  /** Waits for its turn, in which `enter` runs; `release` has to follow, from there or later. */
  wait<A>(enter: () => Exit.Exit<A, ReadFailure>): Effect.Effect<A, ReadFailure> {
    return Effect.async((resume) => {
      const startedAt = Date.now()
      const turn = () => {
        clearTimeout(timer)
        resume(enter())
      }
      const timer = setTimeout(() => {
        this.line.delete(turn)
        resume(Exit.fail(new PoolTimeout({ waitedMs: Date.now() - startedAt, open: 1, waiting: this.line.size })))
      }, waitMaxMs)
      this.line.add(turn)
      return Effect.sync(() => {
        clearTimeout(timer)
        this.line.delete(turn)
      })
    })
  }

  release(): void {
    this.taken = false
    // A loop, and no recursion through each turn's own release: the line may be long.
    if (this.draining) return
    this.draining = true
    for (const turn of this.line) {
      if (this.taken) break
      this.line.delete(turn)
      this.taken = true
      turn()
    }
    this.draining = false
  }
}
