/**
 * The user's own SQL: an `SqlClient` of @effect/sql over the connections of a `PgDatabase`. The statement builder and
 * the compiler are taken from the packages. Transactions are ours, because the package's share one key among all
 * databases of a program, end in a defect when COMMIT fails, and can't be interrupted while they wait.
 */
import type * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Statement from "@effect/sql/Statement"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type Pg from "pg"
import type { StoreFailure } from "../../Errors.js"
import { ConnectionPool } from "../../sql/ConnectionPool.js"
import { type InContext, type PgPool, statement, type Transactions } from "./access.js"
import type { PgConnection } from "./connection.js"

export const make = (transactions: Transactions, reactivity: Reactivity.Reactivity.Service): SqlClient.SqlClient => {
  const connection = connectionOf((fiber) => transactions.poolOf(fiber))

  const reserve = Effect.map(Effect.mapError(transactions.pool.acquire, statementError), (own) => {
    // One connection as a pool, so that its statements run in order.
    const limits = { ...transactions.pool.limits, maxOpenConns: 1, maxIdleConns: 1 }
    const one = { open: (done: (own: PgConnection) => void) => done(own), close: () => {}, usable: () => own.usable }
    const pool: PgPool = new ConnectionPool("reserved", limits, one, false)
    return { pool, connection: connectionOf(() => pool) }
  }).pipe(
    Effect.tap(({ pool }) => Effect.addFinalizer(() => pool.shutdown)),
    Effect.map(({ connection }) => connection)
  )

  const base = Object.assign(
    Statement.make(Effect.succeed(connection), PgClient.makeCompiler(), [["db.system.name", "postgresql"]], undefined),
    {
      [SqlClient.TypeId]: SqlClient.TypeId as SqlClient.TypeId,
      reserve,
      withTransaction: <R, E, A>(self: Effect.Effect<A, E, R>) => transactions.run(self, "begin", transactionError),
      reactive: reactivity.stream,
      reactiveMailbox: reactivity.query
    }
  )
  const client: SqlClient.SqlClient = Object.assign(base, {
    safe: base as SqlClient.SqlClient,
    withoutTransforms: () => client
  })
  return client
}

const connectionOf = (poolOf: (fiber: InContext) => PgPool): Connection => {
  const run = <A>(
    text: string,
    params: ReadonlyArray<unknown>,
    onResult: (result: Pg.QueryResult) => A,
    rowMode?: "array"
  ): Effect.Effect<A, SqlError> =>
    Effect.withFiberRuntime<A, StoreFailure>((fiber) =>
      statement(poolOf(fiber), {
        text,
        operation: "statement",
        kind: "write",
        raw: true,
        onResult,
        // Without parameters the driver may send several statements at once.
        ...(params.length > 0 ? { values: [...params] } : {}),
        ...(rowMode === undefined ? {} : { rowMode })
      })
    ).pipe(Effect.mapError(statementError))
  const rows = (
    text: string,
    params: ReadonlyArray<unknown>,
    transform: (<A extends object>(row: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined
  ) => run(text, params, (result) => (transform === undefined ? result.rows : transform(result.rows)))
  return {
    execute: rows,
    executeUnprepared: rows,
    executeRaw: (text, params) => run(text, params, (result) => result),
    executeValues: (text, params) => run(text, params, (result) => result.rows as Array<Array<unknown>>, "array"),
    // A server-side cursor needs another package, and holds a connection for as long as its consumer likes.
    executeStream: (text, params) => Stream.unwrap(Effect.map(rows(text, params, undefined), Stream.fromIterable))
  }
}

/** As everywhere in @effect/sql, the cause of a statement's error is the driver's error. */
const statementError = (error: StoreFailure): SqlError =>
  new SqlError({
    message: "Failed to execute statement",
    cause: "cause" in error ? error.cause : error
  })

const transactionError = (error: StoreFailure): SqlError => new SqlError({ message: error.message, cause: error })
