/**
 * Access to connections: single steps (`use`), transactions that hold a connection while an effect runs
 * (`Transactions`), and what the stores use of both (`StoreAccess`). A busy file is retried from timers, never by
 * waiting inside SQLite, so the event loop goes on.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import { PoolTimeout, type ReadFailure, StoreError, type StoreFailure } from "../../Errors.js"
import * as Telemetry from "../../internal/telemetry.js"
import { ConnectionPool, OpenFailure } from "../../sql/ConnectionPool.js"
import type { InContext } from "../../sql/transactions.js"
import * as transactions from "../../sql/transactions.js"
import type { SqliteConnection, StepConnection } from "./connection.js"
import { failure, isBusy } from "./failures.js"

export type SqlitePool = ConnectionPool<SqliteConnection>

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
  if (connection === undefined) return useInLine(pool, operation, step, keep)
  const result = attempt(connection, operation, step)
  if (!(keep && result !== undefined && Exit.isSuccess(result))) pool.release(connection)
  return result ?? useInLine(pool, operation, step, keep)
}

/** How long steps may run in a row before timers, sockets and signals get their turn. */
const unbrokenMsMax = 10

let unbrokenSince: number | undefined

/**
 * A fiber whose steps are all synchronous yields only by microtasks, so the event loop would not turn: 1,422 appends
 * were seen between two turns.
 */
const isLoopDue = (): boolean => {
  const now = performance.now()
  if (unbrokenSince === undefined) {
    unbrokenSince = now
    setImmediate(() => {
      unbrokenSince = undefined
    })
  }
  return now - unbrokenSince > unbrokenMsMax
}

const useInLine = <A>(
  pool: SqlitePool,
  operation: string,
  step: Step<A>,
  keep: boolean
): Effect.Effect<A, StoreFailure> =>
  Effect.async((resume) => {
    // Real timers, not the fiber's Clock: the file is busy in real time, even under a test's clock.
    const startedAt = Date.now()
    const deadline = startedAt + pool.limits.acquireTimeoutMs
    let held: SqliteConnection | undefined
    let timer: NodeJS.Timeout | NodeJS.Immediate | undefined
    const run = (connection: SqliteConnection, delayMs: number): void => {
      const result = attempt(connection, operation, step)
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
    }
    const waiter = {
      take: (connection: SqliteConnection): void => {
        held = connection
        // Not at once: the caller is releasing the connection, and a long queue would nest without end.
        timer = setImmediate(() => {
          // This step counts too: else the next would follow it in the same turn, however long this one takes.
          isLoopDue()
          run(connection, busyRetryFirstMs)
        })
      },
      fail: (error: StoreFailure): void => resume(Effect.fail(error))
    }
    pool.take(waiter)
    return Effect.sync(() => {
      if (pool.leave(waiter) || held === undefined) return
      clearTimeout(timer as NodeJS.Timeout)
      clearImmediate(timer as NodeJS.Immediate)
      pool.release(held)
    })
  })

/** `undefined`: the file was busy, and nothing was done. */
const attempt = <A>(
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

/**
 * A transaction, or a savepoint in one. Its steps run on its connection. From its first nested transaction on, it is a
 * pool of one connection to the effects inside it: a nested transaction holds that connection and its siblings wait,
 * because SQLite has only one stack of savepoints.
 */
export class Transaction extends transactions.Transaction<Transaction> {
  private connection: SqliteConnection | undefined
  private nested: SqlitePool | undefined
  /** The nested transaction that is open: there is only one stack of savepoints. */
  private child: Transaction | undefined
  private committed = false

  constructor(
    private readonly outside: SqlitePool,
    parent: Transaction | undefined
  ) {
    super(parent)
  }

  /** For nested transactions. Created when first needed, because it costs as much as a short transaction. */
  get inside(): SqlitePool {
    if (this.nested !== undefined) return this.nested
    const nested: SqlitePool = new ConnectionPool(
      `${this.outside.name} transaction`,
      transactions.insideLimits(this.outside.limits),
      {
        open: (done) =>
          done(this.connection !== undefined && this.alive ? this.connection : new OpenFailure(gone(), false)),
        close: () => {},
        usable: () => this.alive
      }
    )
    // Put into the pool now, so that the first step finds it there.
    nested.take({ take: (own) => nested.release(own), fail: () => {} })
    this.nested = nested
    return nested
  }

  use<A>(operation: string, step: Step<A>): Effect.Effect<A, StoreFailure> {
    const { connection, nested } = this
    if (connection === undefined || !this.alive) return Effect.fail(gone())
    // While queued it may outlive the transaction, and others may have its connection by then.
    const whileAlive: Step<A> = (own) => {
      if (!this.alive) throw gone()
      return step(own)
    }
    // A queued step lets the event loop turn first.
    if (nested !== undefined || isLoopDue()) return use(this.inside, operation, whileAlive)
    return attempt(connection, operation, step) ?? use(this.inside, operation, whileAlive)
  }

  private get alive(): boolean {
    return !this.ended && this.connection?.db.inTransaction === true && (this.parent?.alive ?? true)
  }

  readonly begin: Effect.Effect<void, StoreFailure> = Effect.suspend(() =>
    use(
      this.outside,
      "BEGIN",
      (connection) => {
        if (this.parent === undefined) connection.begin()
        else {
          // It was in the queue while the outer transaction ended.
          if (this.parent.closing) throw gone("the transaction around it was at its end")
          connection.savepoint(this.savepoint)
          this.parent.child = this
        }
        this.connection = connection
      },
      true
    )
  )

  /** Fails while a nested transaction is open: only a fiber that was not awaited can still be in one. */
  readonly commit: Effect.Effect<void, StoreFailure> = Effect.suspend(() => {
    this.closing = true
    if (this.child !== undefined) return Effect.fail(outlived())
    return this.use("COMMIT", (connection) => {
      if (this.parent === undefined) connection.commit("COMMIT")
      else connection.releaseSavepoint(this.savepoint)
      this.committed = true
    })
  })

  /**
   * Rolls back unless it was committed, and releases the connection. Cannot fail: the first cause is what counts.
   */
  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    const { connection } = this
    this.closing = true
    if (connection !== undefined) {
      if (this.committed) this.reportCommit()
      else if (this.parent === undefined) connection.rollback()
      else if (this.alive) connection.rollbackTo(this.savepoint)
    }
    this.ended = true
    if (this.parent?.child === this) this.parent.child = undefined
    if (connection !== undefined) this.outside.release(connection)
    return this.nested === undefined ? Effect.void : transactions.shutdownInside(this.nested)
  })
}

const gone = (why = "it was rolled back before its end"): StoreError =>
  new StoreError({ operation: "transaction", cause: new Error(why) })

const outlived = (): StoreError =>
  new StoreError({
    operation: "COMMIT",
    cause: new Error("a transaction inside it is still open: wait for its fiber before the outer one ends")
  })

export class Transactions extends transactions.Transactions<Transaction> {
  constructor(
    readonly pool: SqlitePool,
    filename: string
  ) {
    super(Telemetry.transactions("SqliteDatabase", { system: "sqlite", connection: filename }))
  }

  /**
   * 1. Waits for the connection, or for the enclosing transaction; can be interrupted.
   * 2. BEGIN, or SAVEPOINT in an enclosing transaction.
   * 3. The effect; then COMMIT, or RELEASE, whose failure fails the effect.
   * 4. After any failure or interrupt: ROLLBACK. The connection is released.
   */
  run<A, E, R, F>(self: Effect.Effect<A, E, R>, refail: (error: StoreFailure) => F): Effect.Effect<A, E | F, R> {
    return Effect.withFiberRuntime((fiber) => {
      const parent = this.current(fiber)
      const transaction = new Transaction(parent?.inside ?? this.pool, parent)
      const whole = Effect.mapError(transaction.begin, refail).pipe(
        Effect.zipRight(this.within(transaction, self)),
        Effect.zipLeft(Effect.mapError(transaction.commit, refail)),
        Effect.ensuring(transaction.end)
      )
      return this.spanned(fiber, parent !== undefined, whole)
    })
  }
}

/** Under a symbol that no entry point exports, so that what users see of a database is for users. */
export const storeAccess: unique symbol = Symbol.for("effect-stores/SqliteDatabase/storeAccess")

export interface StoreAccess {
  /** The file. */
  readonly connection: string

  /** The user's `transaction`. */
  readonly transaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | StoreFailure, R>

  /**
   * Runs a step on the connection that writes, or in the transaction of the fiber. `committed` is called once what the
   * step did is committed.
   */
  readonly write: <A>(
    operation: string,
    step: StoreStep<A>,
    committed?: (value: A) => void
  ) => Effect.Effect<A, StoreFailure>

  /** Runs a step that only reads on a connection that reads, or in the transaction of the fiber. */
  readonly read: <A>(operation: string, step: StoreStep<A>) => Effect.Effect<A, ReadFailure>

  /** Whether the fiber is in a transaction of this database that can write. */
  readonly inTransaction: (fiber: InContext) => boolean
}

/** `reads` is what reads at the moment, which is `writes` where there is only one connection. */
export const accessTo = (connection: string, writes: Transactions, reads: () => Transactions): StoreAccess => ({
  connection,
  transaction: (self) => writes.run(self, identity),
  inTransaction: (fiber) => writes.current(fiber) !== undefined,
  write: <A>(operation: string, step: StoreStep<A>, committed?: (value: A) => void) =>
    Effect.withFiberRuntime<A, StoreFailure>((fiber) => {
      const transaction = writes.current(fiber)
      if (transaction === undefined) {
        return use(writes.pool, operation, (connection) => {
          const value = step(connection)
          committed?.(value)
          return value
        })
      }
      return transaction.use(operation, (connection) => {
        const value = step(connection)
        if (committed !== undefined) transaction.onCommit(() => committed(value))
        return value
      })
    }),
  read: <A>(operation: string, step: StoreStep<A>) =>
    Effect.withFiberRuntime<A, ReadFailure>((fiber) => {
      const transaction = writes.current(fiber) ?? reads().current(fiber)
      const found = transaction === undefined ? use(reads().pool, operation, step) : transaction.use(operation, step)
      // A step that only reads has nothing to commit.
      return found as Effect.Effect<A, ReadFailure>
    })
})
