/**
 * Access to connections: single statements (`statement`), transactions that hold a connection while an effect runs
 * (`Transactions`), and what the stores use of both (`StoreAccess`). To the effects inside it, a transaction is a pool
 * of one connection. A nested transaction holds that connection and its siblings wait, because PostgreSQL has only one
 * stack of savepoints per connection.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Scope from "effect/Scope"
import type Pg from "pg"
import { StoreError, type StoreFailure, StoreUnavailable } from "../../Errors.js"
import * as Telemetry from "../../internal/telemetry.js"
import type { Limits } from "../../Pool.js"
import { ConnectionPool, OpenFailure, type Waiter } from "../../sql/ConnectionPool.js"
import type { InContext } from "../../sql/transactions.js"
import * as transactions from "../../sql/transactions.js"
import type { PgConnection, PgPool, Query } from "./connection.js"
import { classify, type FailureOf, isOverdue, type QueryKind } from "./failures.js"
import type { Names } from "./names.js"
import type { ConnectionSettings } from "./settings.js"

export interface Statement<A, K extends QueryKind = QueryKind> extends Query {
  /** What errors call it. */
  readonly operation: string
  readonly kind: K
  readonly onResult: (result: Pg.QueryResult) => A
  /** The user's own SQL receives values as the driver reads them. */
  readonly raw?: boolean
}

/**
 * Makes the prepared statements of a store. Their names belong to a connection, and stores with other tables may share
 * it, so the store and its tables are in them.
 */
export const preparing =
  ({ channel }: Pick<Names, "channel">, store: string) =>
  <A, K extends QueryKind>(
    name: string,
    operation: string,
    kind: K,
    text: string,
    values: Array<unknown>,
    onResult: (result: Pg.QueryResult) => A
  ): Statement<A, K> => ({
    name: `${channel}/${store}_${name}`,
    text,
    values,
    rowMode: "array",
    operation,
    kind,
    onResult
  })

/**
 * Runs a statement on a connection of the pool, as one Effect node. An interrupted waiter leaves the queue at once; a
 * running statement is ended first (see `PgConnection.start`).
 */
export const statement = <A, K extends QueryKind>(
  pool: PgPool,
  query: Statement<A, K>
): Effect.Effect<A, FailureOf<K>> => Effect.async((resume) => submit(pool, query, resume))

/**
 * The same outside any fiber. The effect it returns does what interruption does. `done` is called in that case too,
 * before that effect returns.
 */
export const submit = <A, K extends QueryKind>(
  pool: PgPool,
  query: Statement<A, K>,
  done: (exit: Exit.Exit<A, FailureOf<K>>) => void
): Effect.Effect<void> => {
  let abandon: Effect.Effect<void> = Effect.void
  const waiter: Waiter<PgConnection> = {
    take: (connection) => {
      const running = connection.start(query, query.raw !== true, (error, result) => {
        pool.release(connection)
        done(exitOf(query, error, result))
      })
      abandon = running.abandon
    },
    fail: (error) => done(Exit.fail(error))
  }
  pool.take(waiter)
  return Effect.suspend(() => {
    if (!pool.leave(waiter)) return abandon
    done(Exit.interrupt(FiberId.none))
    return Effect.void
  })
}

/** What a statement has returned, or failed with. */
export const exitOf = <A, K extends QueryKind>(
  query: Statement<A, K>,
  error: unknown,
  result: Pg.QueryResult | undefined
): Exit.Exit<A, FailureOf<K>> => {
  if (error !== undefined || result === undefined) return Exit.fail(classify(error, query.kind, query.operation))
  try {
    return Exit.succeed(query.onResult(result))
  } catch (cause) {
    return Exit.fail(new StoreError({ operation: query.operation, cause }))
  }
}

const command = (text: string, kind: QueryKind, operation: string): Statement<string> => ({
  text,
  kind,
  operation,
  bare: true,
  onResult: (result) => result.command
})

/**
 * How a transaction is isolated from others. Above `read committed` appends are refused.
 *
 * @since 0.1.0
 * @category models
 */
export type Isolation = "read committed" | "repeatable read" | "serializable"

class Transaction extends transactions.Transaction<Transaction> {
  readonly inside: PgPool
  begun = false
  private endedByHand = false

  constructor(
    readonly connection: PgConnection,
    parent: Transaction | undefined,
    outside: PgPool
  ) {
    super(parent)
    this.inside = new ConnectionPool(`${outside.name} transaction`, transactions.insideLimits(outside.limits), {
      open: (done) =>
        done(
          this.alive
            ? this.connection
            : new OpenFailure(
                this.connection.usable ? ended("a statement in it has ended it") : lost(this.connection.endedBy),
                false
              )
        ),
      close: () => {},
      usable: () => {
        // The user ran COMMIT or ROLLBACK by hand: later statements would not belong to the transaction.
        this.endedByHand = this.begun && this.connection.outsideTransaction
        return this.alive
      }
    })
  }

  private get alive(): boolean {
    return !this.ended && !this.endedByHand && this.connection.usable
  }

  readonly committed: Effect.Effect<void> = Effect.sync(() => this.reportCommit())

  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    this.ended = true
    return transactions.shutdownInside(this.inside)
  })
}

const ended = (why: string): StoreError => new StoreError({ operation: "transaction", cause: new Error(why) })

/** COMMIT was not sent yet, so it has certainly not happened. */
const lost = (cause: unknown): StoreUnavailable => {
  const overdue = isOverdue(cause)
  const why = overdue
    ? "it took too long, or did nothing for longer than idleInTransactionTimeout, so the server has ended it"
    : "its connection was lost, so it was rolled back"
  return new StoreUnavailable({ operation: "transaction", retryable: !overdue, cause: new Error(why, { cause }) })
}

export class Transactions extends transactions.Transactions<Transaction> {
  constructor(
    readonly pool: PgPool,
    /** What follows BEGIN where the session needs it. */
    private readonly settings: string
  ) {
    super(Telemetry.transactions("PgDatabase", { system: "postgresql", connection: pool.name }))
  }

  /** Where a statement of this fiber runs. */
  poolOf(fiber: transactions.InContext): PgPool {
    return this.current(fiber)?.inside ?? this.pool
  }

  /**
   * 1. Waits for a connection, or for the enclosing transaction; can be interrupted.
   * 2. BEGIN, or SAVEPOINT in an enclosing transaction.
   * 3. The effect; then COMMIT, or RELEASE, whose failure fails the effect.
   * 4. After any failure or interrupt: ROLLBACK, which never hides the first cause. The connection is released.
   */
  run<A, E, R, F>(
    self: Effect.Effect<A, E, R>,
    begin: string,
    refail: (error: StoreFailure) => F
  ): Effect.Effect<A, E | F, R> {
    return Effect.withFiberRuntime((fiber) => {
      const parent = this.current(fiber)
      const outside = parent?.inside ?? this.pool
      // A scope of our own: that of the effect is the caller's.
      const whole: Effect.Effect<A, E | F, R> = Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Scope.make(), (scope) =>
          restore(Scope.extend(Effect.mapError(outside.acquire, refail), scope)).pipe(
            Effect.flatMap((connection) => {
              // It was in the queue while the outer transaction ended.
              if (parent?.closing === true)
                return Effect.fail(refail(ended("the transaction around it was at its end")))
              const transaction = new Transaction(connection, parent, outside)
              return restore(this.hold(transaction, self, begin, refail))
            }),
            Effect.onExit((exit) => Scope.close(scope, exit))
          )
        )
      )
      return this.spanned(fiber, parent !== undefined, whole)
    })
  }

  private hold<A, E, R, F>(
    transaction: Transaction,
    self: Effect.Effect<A, E, R>,
    begin: string,
    refail: (error: StoreFailure) => F
  ): Effect.Effect<A, E | F, R> {
    const { inside, parent, savepoint } = transaction
    const run = (text: string, kind: QueryKind, operation: string) =>
      Effect.mapError(statement(inside, command(text, kind, operation)), refail)
    const last = (text: string, kind: QueryKind, operation: string) =>
      Effect.suspend(() => {
        transaction.closing = true
        return run(text, kind, operation)
      })
    const settings = transaction.connection.needsSettings ? this.settings : ""
    const open = parent === undefined ? begin + settings : `savepoint ${savepoint}`
    const close =
      parent === undefined
        ? Effect.flatMap(last("commit", "write", "COMMIT"), (answer) =>
            // A transaction in which a statement failed is rolled back by COMMIT, without an error.
            answer === "COMMIT" ? Effect.void : Effect.fail(refail(rolledBack()))
          )
        : last(`release savepoint ${savepoint}`, "read", "RELEASE SAVEPOINT")
    const undo =
      parent === undefined ? "rollback" : `rollback to savepoint ${savepoint}; release savepoint ${savepoint}`
    return Effect.uninterruptibleMask((restore) =>
      restore(run(open, "read", "BEGIN")).pipe(
        Effect.tap(() => {
          transaction.begun = true
        }),
        Effect.zipRight(restore(this.within(transaction, self))),
        // Not interruptible: an interrupt between COMMIT and its answer would leave the caller in doubt.
        Effect.zipLeft(close),
        Effect.tap(transaction.committed),
        Effect.onError(() => {
          const { connection } = transaction
          if (!connection.usable) return Effect.void
          const close = Effect.sync(() => connection.close())
          // COMMIT has waited in vain for a nested transaction, and ROLLBACK would too.
          if (transaction.closing && transactions.isBusy(inside)) return close
          return Effect.catchAll(last(undo, "read", "ROLLBACK"), () => close)
        }),
        Effect.ensuring(transaction.end)
      )
    )
  }
}

export const rolledBack = (): StoreError =>
  new StoreError({
    operation: "COMMIT",
    cause: new Error("a statement of the transaction had failed, so the server rolled it back")
  })

/** Under a symbol that no entry point exports, so that what users see of a database is for users. */
export const storeAccess: unique symbol = Symbol.for("effect-stores/PgDatabase/storeAccess")

export interface StoreAccess {
  readonly connection: string

  /** The user's `transaction`, with its default options. */
  readonly transaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | StoreFailure, R>

  /** Runs a statement on a connection of the pool, or in the transaction of the fiber. */
  readonly run: <A, K extends QueryKind>(query: Statement<A, K>) => Effect.Effect<A, FailureOf<K>>

  /** The same, and calls back once what it did is committed. */
  readonly write: <A>(query: Statement<A>, committed: (value: A) => void) => Effect.Effect<A, StoreFailure>

  /**
   * The same, but one that changes little and tells by its rows what it has done: outside a transaction it may share
   * that of others (`SharedCommits`).
   */
  readonly writeGrouped: <A>(query: Statement<A>) => Effect.Effect<A, StoreFailure>

  /**
   * Runs a statement on a connection of the pool, outside any fiber and transaction. The effect it returns ends the
   * statement, as interruption ends `run`; `done` is called in any case.
   */
  readonly submit: <A>(query: Statement<A>, done: (exit: Exit.Exit<A, StoreFailure>) => void) => Effect.Effect<void>

  /** Whether the fiber is in a transaction of this database. */
  readonly inTransaction: (fiber: InContext) => boolean

  readonly limits: Limits

  /** Whether there is a pooler, and where a store's own connection (LISTEN) leads. */
  readonly settings: Pick<ConnectionSettings, "groupCommit" | "listener" | "pooled">
}

/** `shared` runs what may share a transaction; without it nothing does. */
export const accessTo = (
  pool: PgPool,
  transactions: Transactions,
  shared: (<A>(query: Statement<A>) => Effect.Effect<A, StoreFailure>) | undefined
): Pick<StoreAccess, "run" | "write" | "writeGrouped" | "submit" | "inTransaction"> => ({
  run: <A, K extends QueryKind>(query: Statement<A, K>) =>
    Effect.withFiberRuntime<A, FailureOf<K>>((fiber) => statement(transactions.poolOf(fiber), query)),
  write: <A>(query: Statement<A>, committed: (value: A) => void) =>
    Effect.withFiberRuntime<A, StoreFailure>((fiber) => {
      const transaction = transactions.current(fiber)
      const { onResult } = query
      return statement(transaction?.inside ?? pool, {
        ...query,
        onResult: (result) => {
          const value = onResult(result)
          if (transaction === undefined) committed(value)
          else transaction.onCommit(() => committed(value))
          return value
        }
      })
    }),
  writeGrouped: (query) =>
    Effect.withFiberRuntime((fiber) =>
      shared === undefined || transactions.current(fiber) !== undefined
        ? statement(transactions.poolOf(fiber), query)
        : shared(query)
    ),
  submit: (query, done) => submit(pool, query, done),
  inTransaction: (fiber) => transactions.current(fiber) !== undefined
})
