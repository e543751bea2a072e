/**
 * Whether a database can be used now: for the probes by which an operator decides whether a process gets requests, or
 * is restarted. The databases have it as `health`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { type ReadFailure, StoreUnavailable } from "./Errors.js"

/**
 * - `up`: it responds.
 * - `busy`: it is there, and an operation that comes now has to wait for a connection. A process that is only busy need
 *   not be restarted: another one would wait in the same way.
 * - `down`: it does not respond, or refuses; `error` says why.
 *
 * @since 0.1.0
 * @category models
 */
export type Health = { readonly status: "up" | "busy" } | { readonly status: "down"; readonly error: ReadFailure }

/**
 * How long a database is asked before it counts as down.
 *
 * @since 0.1.0
 * @category constants
 */
export const timeoutMs = 2_000

/**
 * Asks, and interrupts `ask` when `timeoutMs` are over, so interrupting it must not take long. Never fails.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (ask: Effect.Effect<"up" | "busy", ReadFailure>): Effect.Effect<Health> =>
  // A real timer, not the fiber's Clock: the database is asked in real time, also under a test's clock.
  Effect.raceFirst(
    ask,
    Effect.async<never, StoreUnavailable>((resume) => {
      const cause = new Error(`no answer within ${timeoutMs} ms`)
      const late = new StoreUnavailable({ operation: "health", retryable: true, cause })
      const timer = setTimeout(() => resume(Effect.fail(late)), timeoutMs)
      return Effect.sync(() => clearTimeout(timer))
    })
  ).pipe(
    Effect.match({
      onSuccess: (status): Health => ({ status }),
      onFailure: (error): Health => ({ status: "down", error })
    })
  )
