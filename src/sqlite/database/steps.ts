/**
 * Single steps on connections, and steps that share a commit (`GroupCommit`). A busy file is retried from timers, never
 * by waiting inside SQLite, so the event loop goes on.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { CommitOutcomeUnknown, PoolTimeout, type StoreFailure } from "../../Errors.js"
import type { ConnectionPool, Waiter } from "../../sql/ConnectionPool.js"
import type { SqliteConnection, StepConnection } from "./connection.js"
import { codeOf, failure, isBusy, isDiskFailure } from "./failures.js"

export type SqlitePool = ConnectionPool<SqliteConnection>
type SqliteWaiter = Waiter<SqliteConnection>

/** Runs to its end without yielding, so it cannot be interrupted halfway. Throws. */
export type Step<A> = (connection: SqliteConnection) => A

/** The same of a store. */
export type StoreStep<A> = (connection: StepConnection) => A

// A commit takes 0.1 to 10 ms. Jitter keeps waiting processes from colliding at every attempt.
const busyRetryFirstMs = 1
const busyRetryMaxMs = 16

/**
 * Runs a step on a connection of the pool. If one is free, the step runs when this is called. Otherwise the effect it
 * returns waits in the queue, and retries while the file is busy, up to the pool's `acquireTimeout`. `keep`: a
 * successful step keeps the connection, and the caller releases it.
 */
export const use = <A>(
  pool: SqlitePool,
  operation: string,
  step: Step<A>,
  keep = false
): Effect.Effect<A, StoreFailure> => {
  const connection = isLoopDue() ? undefined : pool.tryTake()
  if (connection !== undefined) {
    const result = attempt(connection, operation, step)
    if (!(keep && result !== undefined && Exit.isSuccess(result))) pool.release(connection)
    if (result !== undefined) return result
  }
  return useInLine(pool, { run: (connection) => attempt(connection, operation, step) }, keep)
}

/** How long steps may run in a row before timers, sockets and signals get their turn. */
const unbrokenMsMax = 10

let unbrokenSince: number | undefined

/**
 * A fiber whose steps are all synchronous yields only by microtasks, so the event loop would not turn: 1,422 appends
 * were seen between two turns.
 */
export const isLoopDue = (): boolean => {
  const now = performance.now()
  if (unbrokenSince === undefined) {
    unbrokenSince = now
    setImmediate(() => {
      unbrokenSince = undefined
    })
  }
  return now - unbrokenSince > unbrokenMsMax
}

/** What waits for a connection. */
interface InLine<A> {
  /** `undefined`: the file was busy, and nothing was done. */
  readonly run: (connection: SqliteConnection) => Exit.Exit<A, StoreFailure> | undefined
  /** It waits from now on; `settle` ends it. */
  readonly entered?: (waiter: SqliteWaiter, settle: (exit: Exit.Exit<A, StoreFailure>) => void) => void
  readonly left?: (waiter: SqliteWaiter) => void
  /** Called when it has been told its outcome, or waits no longer. */
  readonly settled?: () => void
}

const useInLine = <A>(pool: SqlitePool, self: InLine<A>, keep: boolean): Effect.Effect<A, StoreFailure> =>
  Effect.async((resume) => {
    // Real timers, not the fiber's Clock: the file is busy in real time, even under a test's clock.
    const startedAt = Date.now()
    const deadline = startedAt + pool.limits.acquireTimeoutMs
    let held: SqliteConnection | undefined
    let timer: NodeJS.Timeout | NodeJS.Immediate | undefined
    const run = (connection: SqliteConnection, delayMs: number): void => {
      const result = self.run(connection)
      if (result === undefined && Date.now() < deadline) {
        timer = setTimeout(
          () => run(connection, Math.min(busyRetryMaxMs, delayMs * 2)),
          delayMs * (0.5 + Math.random())
        )
        return
      }
      held = undefined
      if (!(keep && result !== undefined && Exit.isSuccess(result))) pool.release(connection)
      resume(result ?? Effect.fail(timedOut(pool, Date.now() - startedAt)))
      self.settled?.()
    }
    const waiter: SqliteWaiter = {
      take: (connection) => {
        held = connection
        self.left?.(waiter)
        // Not at once: the caller is releasing the connection, and a long queue would nest without end.
        timer = setImmediate(() => {
          // This step counts too: else the next would follow it in the same turn, however long this one takes.
          isLoopDue()
          run(connection, busyRetryFirstMs)
        })
      },
      fail: (error) => {
        self.left?.(waiter)
        resume(Effect.fail(error))
      }
    }
    self.entered?.(waiter, resume)
    pool.take(waiter)
    return Effect.sync(() => {
      self.left?.(waiter)
      if (pool.leave(waiter) || held === undefined) return
      clearTimeout(timer as NodeJS.Timeout)
      clearImmediate(timer as NodeJS.Immediate)
      pool.release(held)
      self.settled?.()
    })
  })

/** `undefined`: the file was busy, and nothing was done. */
export const attempt = <A>(
  connection: SqliteConnection,
  operation: string,
  step: Step<A>
): Exit.Exit<A, StoreFailure> | undefined => {
  try {
    connection.checkFile()
    return Exit.succeed(step(connection))
  } catch (error) {
    if (isBusy(error)) return undefined
    connection.noteFailure(error)
    return Exit.fail(failure(operation, error))
  }
}

const timedOut = (pool: SqlitePool, waitedMs: number): PoolTimeout => {
  const { open, waiting } = pool.state
  return new PoolTimeout({ waitedMs, open, waiting })
}

interface Member<A> {
  readonly operation: string
  readonly step: StoreStep<A>
  readonly committed: ((value: A) => void) | undefined
}

interface Waiting {
  readonly member: Member<unknown>
  readonly settle: (exit: Exit.Exit<unknown, StoreFailure>) => void
}

/** In one transaction, at most: bounds how long the first of them waits for the last. */
const membersMax = 128

/**
 * Steps that wait for the connection at the same time share a transaction, and so what a commit costs: most of all the
 * sync of the file. Each has its own outcome. A step that finds nobody else runs at once and commits by itself, so
 * nothing is slower when idle. Databases that commit to a log do the same.
 *
 * A step must happen wholly or not at all inside a transaction too: it is one statement, or it runs `atomically`.
 */
export class GroupCommit {
  private readonly waiting = new Map<SqliteWaiter, Waiting>()
  /** The last transaction was shared, so others are likely to come in this turn of the event loop. */
  private crowded = false

  constructor(private readonly pool: SqlitePool) {}

  use<A>(member: Member<A>): Effect.Effect<A, StoreFailure> {
    const connection = this.crowded || isLoopDue() ? undefined : this.pool.tryTake()
    if (connection !== undefined) {
      const result = alone(connection, member)
      this.pool.release(connection)
      if (result !== undefined) return result
    }
    // Those that came after it are told their outcomes after it.
    const settlements: Array<() => void> = []
    const self: InLine<A> = {
      run: (connection) => this.run(connection, member, settlements),
      entered: (waiter, settle) => {
        this.waiting.set(waiter, { member, settle } as Waiting)
      },
      left: (waiter) => {
        this.waiting.delete(waiter)
      },
      settled: () => {
        for (const settle of settlements.splice(0)) settle()
      }
    }
    return useInLine(this.pool, self, false)
  }

  /** Runs a step, and along with it those that wait. */
  private run<A>(
    connection: SqliteConnection,
    first: Member<A>,
    settlements: Array<() => void>
  ): Exit.Exit<A, StoreFailure> | undefined {
    this.crowded = this.waiting.size > 0
    if (!this.crowded) return alone(connection, first)
    const along: Array<[SqliteWaiter, Waiting]> = []
    let cause: unknown
    try {
      connection.checkFile()
      const [exit, exits] = connection.atomically(first.operation, () => {
        const exit = within(connection, first)
        const exits: Array<Exit.Exit<unknown, StoreFailure>> = []
        const until = performance.now() + unbrokenMsMax
        for (const [waiter, waiting] of this.waiting) {
          if (along.length + 1 === membersMax || performance.now() > until) break
          this.waiting.delete(waiter)
          this.pool.leave(waiter, true)
          along.push([waiter, waiting])
          exits.push(within(connection, waiting.member))
        }
        return [exit, exits] as const
      })
      commit(first, exit)
      for (const [i, [, { member, settle }]] of along.entries()) {
        const exit = exits[i] as Exit.Exit<unknown, StoreFailure>
        commit(member, exit)
        settlements.push(() => settle(exit))
      }
      return exit
    } catch (error) {
      cause = error
      connection.noteFailure(error)
      // A disk that cannot be read or written fails all; one that is full may be so for the largest only.
      if (error instanceof CommitOutcomeUnknown || (isDiskFailure(error) && codeOf(error) !== "SQLITE_FULL")) {
        for (const [, { member, settle }] of along) {
          settlements.push(() => settle(Exit.fail(shared(member.operation, error))))
        }
        return Exit.fail(shared(first.operation, error))
      }
    }
    // Nothing has happened. The cause may lie in one of them, so each is tried by itself, in their order.
    const isOpen = connection.inTransaction
    const exit = isOpen ? Exit.fail(failure(first.operation, cause)) : alone(connection, first)
    for (const [waiter, waiting] of along) {
      const exit = isOpen || connection.broken ? undefined : alone(connection, waiting.member)
      if (exit !== undefined) settlements.push(() => waiting.settle(exit))
      else {
        this.waiting.set(waiter, waiting)
        this.pool.take(waiter)
      }
    }
    // While the first goes on waiting, those that are done do not wait for it.
    if (exit === undefined) for (const settle of settlements.splice(0)) settle()
    return exit
  }
}

/** A failure of the transaction, as each of its members is told it. */
const shared = (operation: string, error: unknown): StoreFailure =>
  error instanceof CommitOutcomeUnknown
    ? new CommitOutcomeUnknown({ operation, cause: error.cause })
    : failure(operation, error)

const alone = <A>(connection: SqliteConnection, { committed, operation, step }: Member<A>) =>
  attempt(connection, operation, (connection) => {
    const value = step(connection)
    committed?.(value)
    return value
  })

/** A step inside a transaction, which it ends for all if it throws. */
const within = <A>(connection: SqliteConnection, { operation, step }: Member<A>): Exit.Exit<A, StoreFailure> => {
  try {
    const value = step(connection)
    if (!connection.inTransaction) throw new Error("the transaction was ended inside")
    return Exit.succeed(value)
  } catch (error) {
    // A commit that it would have made by itself is still to come.
    const own = error instanceof CommitOutcomeUnknown ? error.cause : error
    if (!connection.inTransaction || isBusy(own) || isDiskFailure(own)) throw own
    return Exit.fail(failure(operation, error))
  }
}

const commit = <A>({ committed }: Member<A>, exit: Exit.Exit<A, StoreFailure>): void => {
  if (Exit.isSuccess(exit)) committed?.(exit.value)
}
