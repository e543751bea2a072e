/**
 * Turns by key: who would only get in each other's way goes one after the other. Not a lock: whoever has waited for
 * long goes without its turn, because the one before it may be waiting for a transaction that waits for it.
 */
import * as Effect from "effect/Effect"

/** Longer than most appends take; real time, as it is for the server behind. */
const patienceMs = 100

interface Ticket {
  resume: (() => void) | undefined
  isServed: boolean
}

export class Turns {
  private readonly lines = new Map<string, Array<Ticket>>()

  /** Runs the effect when those that came before with the same key have ended, or after the patience. */
  after<A, E, R>(key: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const ticket = this.join(key)
        const whole = ticket.isServed ? effect : Effect.zipRight(this.wait(key, ticket), effect)
        return Effect.ensuring(
          restore(whole),
          Effect.sync(() => this.leave(key, ticket))
        )
      })
    )
  }

  private join(key: string): Ticket {
    const line = this.lines.get(key)
    const ticket: Ticket = { resume: undefined, isServed: line === undefined }
    if (line === undefined) this.lines.set(key, [ticket])
    else line.push(ticket)
    return ticket
  }

  private wait(key: string, ticket: Ticket): Effect.Effect<void> {
    return Effect.async((resume) => {
      if (ticket.isServed) return resume(Effect.void)
      const timer = setTimeout(() => {
        this.leave(key, ticket)
        resume(Effect.void)
      }, patienceMs)
      ticket.resume = () => {
        clearTimeout(timer)
        resume(Effect.void)
      }
      return Effect.sync(() => clearTimeout(timer))
    })
  }

  private leave(key: string, ticket: Ticket): void {
    const line = this.lines.get(key)
    const at = line?.indexOf(ticket) ?? -1
    if (line === undefined || at === -1) return
    line.splice(at, 1)
    const next = line[0]
    if (next === undefined) {
      this.lines.delete(key)
    } else if (at === 0 && !next.isServed) {
      next.isServed = true
      next.resume?.()
    }
  }
}
