/**
 * Access to connections: transactions that hold a connection while an effect runs (`Transactions`), and what the stores
 * use of them and of single steps (`StoreAccess`).
 */
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import { type ReadFailure, StoreError, type StoreFailure } from "../../Errors.js"
import * as Telemetry from "../../internal/telemetry.js"
import { ConnectionPool, OpenFailure } from "../../sql/ConnectionPool.js"
import type { InContext } from "../../sql/transactions.js"
import * as transactions from "../../sql/transactions.js"
import type { SqliteConnection } from "./connection.js"
import { attempt, type GroupCommit, isLoopDue, type SqlitePool, type Step, type StoreStep, use } from "./steps.js"

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

  /**
   * The same of a step that happens wholly or not at all, inside a transaction of others too. Those that wait for the
   * connection at the same time share a commit.
   */
  readonly writeGrouped: StoreAccess["write"]

  /** Runs a step that only reads on a connection that reads, or in the transaction of the fiber. */
  readonly read: <A>(operation: string, step: StoreStep<A>) => Effect.Effect<A, ReadFailure>

  /** Whether the fiber is in a transaction of this database that can write. */
  readonly inTransaction: (fiber: InContext) => boolean
}

/** `reads` is what reads at the moment, which is `writes` where there is only one connection. */
export const accessTo = (
  connection: string,
  writes: Transactions,
  reads: () => Transactions,
  group: GroupCommit | undefined
): StoreAccess => {
  const write = <A>(
    operation: string,
    step: StoreStep<A>,
    committed: ((value: A) => void) | undefined,
    group: GroupCommit | undefined
  ) =>
    Effect.withFiberRuntime<A, StoreFailure>((fiber) => {
      const transaction = writes.current(fiber)
      if (transaction === undefined) {
        if (group !== undefined) return group.use({ operation, step, committed })
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
    })

  return {
    connection,
    transaction: (self) => writes.run(self, identity),
    inTransaction: (fiber) => writes.current(fiber) !== undefined,
    write: (operation, step, committed) => write(operation, step, committed, undefined),
    writeGrouped: (operation, step, committed) => write(operation, step, committed, group),
    read: <A>(operation: string, step: StoreStep<A>) =>
      Effect.withFiberRuntime<A, ReadFailure>((fiber) => {
        const transaction = writes.current(fiber) ?? reads().current(fiber)
        const found = transaction === undefined ? use(reads().pool, operation, step) : transaction.use(operation, step)
        // A step that only reads has nothing to commit.
        return found as Effect.Effect<A, ReadFailure>
      })
  }
}
