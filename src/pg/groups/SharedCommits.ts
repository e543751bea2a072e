/**
 * Statements that wait at the same time are sent in one round trip, which the server runs as one transaction: what a
 * commit costs is shared. A statement that finds none under way is sent at once and by itself, so nothing is slower
 * when idle.
 *
 * Each keeps its own outcome, which it must tell by its rows and not by an error. If one of them fails, or waits for a
 * lock for longer than a moment, all are rolled back, and each is sent again by itself.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import type { StoreFailure } from "../../Errors.js"
import type { Waiter } from "../../sql/ConnectionPool.js"
import { exitOf, type Statement, submit } from "../database/access.js"
import type { PgConnection, PgPool } from "../database/connection.js"
import { classify } from "../database/failures.js"
import { groupCharsMax, impatientLockTimeoutMs, Line, underWayMax } from "./Line.js"

/** Bounds how long the first waits for the last. */
const groupStatementsMax = 100

type Done = (exit: Exit.Exit<unknown, StoreFailure>) => void

interface Item {
  readonly query: Statement<unknown>
  readonly deadline: number
  /** Tells the caller, whatever has become of it. */
  readonly settle: Done
  /** Its caller has gone, so it is not sent again. */
  interrupted: boolean
  /** Ends the statement that was sent for this one only. */
  abandon: Effect.Effect<void>
}

export class SharedCommits {
  private readonly line: Line<Item>
  private underWay = 0

  constructor(private readonly pool: PgPool) {
    this.line = new Line(pool.limits, ({ settle }, error) => settle(Exit.fail(error)))
  }

  /** As one Effect node; see `statement` of `StoreAccess`. */
  run<A>(query: Statement<A>): Effect.Effect<A, StoreFailure> {
    return Effect.async((resume) => {
      let onSettled: (() => void) | undefined
      let settled = false
      const item: Item = {
        query,
        deadline: Date.now() + this.pool.limits.acquireTimeoutMs,
        settle: (exit) => {
          settled = true
          resume(exit as Exit.Exit<A, StoreFailure>)
          onSettled?.()
        },
        interrupted: false,
        abandon: Effect.void
      }
      if (this.underWay < underWayMax && this.line.size === 0) this.sendFirst(item)
      else this.line.add(item)
      // One that was sent with others is awaited: ending the statement would end the others too, and they wait for no
      // lock for long.
      return Effect.suspend(() => {
        if (settled || this.line.delete(item)) return Effect.void
        item.interrupted = true
        const ended = Effect.async<void>((done) => {
          if (settled) done(Effect.void)
          else onSettled = () => done(Effect.void)
        })
        return Effect.zipRight(item.abandon, ended)
      })
    })
  }

  private sendAlone(item: Item, ended: () => void = () => {}): void {
    if (item.interrupted) {
      item.settle(Exit.interrupt(FiberId.none))
      return ended()
    }
    item.abandon = submit(this.pool, item.query, (exit) => {
      item.settle(exit)
      ended()
    })
  }

  /** By itself it may wait for a lock. Then the others do not wait for it any more. */
  private sendFirst(item: Item): void {
    this.underWay++
    let counted = true
    const ended = () => {
      clearTimeout(timer)
      if (!counted) return
      counted = false
      this.underWay--
      this.next()
    }
    const timer = setTimeout(ended, impatientLockTimeoutMs)
    this.sendAlone(item, ended)
  }

  private next(): void {
    if (this.line.size === 0 || this.underWay >= underWayMax) return
    let count = 0
    let chars = 0
    const items = this.line.take(({ query }) => {
      chars += sizeOf(query)
      return count++ === 0 || (count <= groupStatementsMax && chars <= groupCharsMax)
    })
    const [only] = items
    if (only !== undefined && items.length === 1) return this.sendFirst(only)
    this.underWay++
    const queries = items.map(({ query }) => query)
    sendTogether(this.pool, queries, (exits, rolledBack) => {
      this.underWay--
      for (const [i, item] of items.entries()) {
        // The cause may lie in one of them only.
        if (rolledBack) this.sendAlone(item)
        else item.settle(exits[i] as Exit.Exit<unknown, StoreFailure>)
      }
      this.next()
    })
  }
}

/** About the characters that its parameters have on the wire. */
const sizeOf = ({ values = [] }: Statement<unknown>): number =>
  values.reduce<number>((sum, value) => sum + (typeof value === "string" ? value.length : 8), 0)

/** `rolledBack`: it was sent, and certainly nothing has happened. */
const sendTogether = (
  pool: PgPool,
  queries: ReadonlyArray<Statement<unknown>>,
  done: (exits: ReadonlyArray<Exit.Exit<unknown, StoreFailure>>, rolledBack: boolean) => void
): void => {
  const waiter: Waiter<PgConnection> = {
    take: (connection) =>
      connection.startTogether(queries, impatientLockTimeoutMs, (error, results) => {
        pool.release(connection)
        done(
          queries.map((query, i) => exitOf(query, error, results?.[i])),
          error !== undefined && classify(error, "write", "commit")._tag !== "CommitOutcomeUnknown"
        )
      }),
    fail: (error) =>
      done(
        queries.map(() => Exit.fail(error)),
        false
      )
  }
  pool.take(waiter)
}
