/**
 * Who holds the feed back, where somebody does. Readers pass no position below which an open transaction may still
 * commit events, so one that is left open for long stops all of them: a projection that stands still has its reason
 * there, and nowhere else.
 *
 * Nothing is asked for it while the feed moves: the statement that returns the head tells the last position too.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { StoreFailure } from "../../Errors.js"
import * as Telemetry from "../../internal/telemetry.js"

/** The transaction with the lowest position. What the server does not show to this user is null. */
export interface Holder {
  /** Null for one that was prepared (`PREPARE TRANSACTION`). */
  readonly pid: number | null
  readonly application: string | null
  readonly state: string | null
  readonly ageMs: number | null
}

export interface Head {
  readonly head: number
  readonly last: number
}

export interface HeldBack {
  readonly saw: (head: Head) => void
  /** Somebody follows the feed until the scope closes. Without the last one, nobody sees any more when it moves on. */
  readonly following: Effect.Effect<void, never, Scope.Scope>
}

/** Transactions that append end sooner, but for those of an import. */
const afterMs = 5_000

/** It is said again when the time has doubled, and at least so often. */
const againMaxMs = 600_000

/**
 * `saw` is told each head that was read. When the same head has been the feed's end for `afterMs` although greater
 * positions were given, metrics show it from then on. Who does it is asked then, and again whenever the time has
 * doubled, and said in a warning.
 */
export const make = (options: {
  readonly connection: string
  readonly table: string
  /** Undefined if the feed is not held back any more. */
  readonly holder: Effect.Effect<Holder | undefined, StoreFailure>
}): Effect.Effect<HeldBack, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { connection, holder, table } = options
    const meter = yield* Effect.acquireRelease(
      Effect.sync(() => Telemetry.feedMeter(connection, table)),
      (meter) => Effect.sync(() => meter.heldBack(0, 0))
    )
    const due = Effect.unsafeMakeLatch(false)
    // The server's time, not that of a test's clock.
    let held: { readonly head: number; readonly sinceMs: number; last: number; nextMs: number } | undefined

    const report = Effect.suspend(() => {
      due.unsafeClose()
      if (held === undefined) return Effect.void
      const { head, last } = held
      return Effect.flatMap(Effect.exit(holder), (exit) => {
        if (Exit.isSuccess(exit) && exit.value === undefined) return Effect.void
        // Reported all the same where the server cannot be asked.
        const found = Exit.isSuccess(exit) ? exit.value : undefined
        return Effect.logWarning(
          `the feed of ${table} in ${connection} is held back at position ${head}, ${last - head} before the last, ` +
            `by ${described(found)}: readers wait until it ends`
        )
      })
    })
    yield* Effect.forkScoped(Effect.forever(Effect.zipRight(due.await, report)))

    const saw = ({ head, last }: Head): void => {
      const nowMs = performance.now()
      if (last <= head || held?.head !== head) {
        if (held !== undefined) meter.heldBack(0, 0)
        held = last <= head ? undefined : { head, last, sinceMs: nowMs, nextMs: nowMs + afterMs }
        return
      }
      held.last = last
      const heldMs = nowMs - held.sinceMs
      if (heldMs >= afterMs) meter.heldBack(last - head, heldMs)
      if (nowMs < held.nextMs) return
      held.nextMs = nowMs + Math.min(heldMs, againMaxMs)
      due.unsafeOpen()
    }

    let followers = 0
    const following = Effect.acquireRelease(
      Effect.sync(() => {
        followers++
      }),
      () =>
        Effect.sync(() => {
          followers--
          if (followers > 0 || held === undefined) return
          meter.heldBack(0, 0)
          held = undefined
        })
    )
    return { saw, following }
  })

const described = (holder: Holder | undefined): string => {
  if (holder === undefined) return "an open transaction"
  const { ageMs, application, pid, state } = holder
  if (pid === null) return "a transaction without a process: look into pg_prepared_xacts"
  const name = application ? ` (application_name ${application})` : ""
  const process = `the transaction of the server's process ${pid}${name}`
  if (ageMs === null) return `${process}, of which this user may not see more`
  const age = Duration.format(Duration.seconds(Math.round(ageMs / 1000)))
  return `${process}, which is ${state} and began ${age} ago`
}
