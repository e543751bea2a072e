/**
 * The user's own SQL: an `SqlClient` of @effect/sql over the connections of a `PgDatabase`.
 */
import type * as Reactivity from "@effect/experimental/Reactivity"
import type * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type Pg from "pg"
import type { StoreFailure } from "../../Errors.js"
import { ConnectionPool } from "../../sql/ConnectionPool.js"
import * as sqlClient from "../../sql/sqlClient.js"
import { statementError, transactionError } from "../../sql/sqlClient.js"
import type { InContext } from "../../sql/transactions.js"
import { statement, type Transactions } from "./access.js"
import type { PgConnection, PgPool } from "./connection.js"

export const make = (transactions: Transactions, reactivity: Reactivity.Reactivity.Service): SqlClient.SqlClient => {
  const connection = connectionOf((fiber) => transactions.poolOf(fiber))

  const reserve = Effect.map(Effect.mapError(transactions.pool.acquire, statementError), (own) => {
    // One connection as a pool, so that its statements run in order.
    const limits = { ...transactions.pool.limits, maxOpenConns: 1, maxIdleConns: 1 }
    const one = { open: (done: (own: PgConnection) => void) => done(own), close: () => {}, usable: () => own.usable }
    const pool: PgPool = new ConnectionPool("reserved", limits, one)
    return { pool, connection: connectionOf(() => pool) }
  }).pipe(
    Effect.tap(({ pool }) => Effect.addFinalizer(() => pool.shutdown)),
    Effect.map(({ connection }) => connection)
  )

  return sqlClient.make({
    system: "postgresql",
    compiler: PgClient.makeCompiler(),
    connection,
    reserve,
    withTransaction: (self) => transactions.run(self, "begin", transactionError),
    reactivity
  })
}

/** Of several statements in one text, the rows of each. */
const rowsOf = (result: Pg.QueryResult | ReadonlyArray<Pg.QueryResult>): ReadonlyArray<never> => {
  const rows: ReadonlyArray<unknown> = "rows" in result ? result.rows : result.map(({ rows }) => rows)
  return rows as ReadonlyArray<never>
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
  ) =>
    run(text, params, (result) => {
      const rows = rowsOf(result)
      return transform === undefined ? rows : transform(rows)
    })
  return {
    execute: rows,
    executeUnprepared: rows,
    executeRaw: (text, params) => run(text, params, (result) => result),
    executeValues: (text, params) => run(text, params, (result) => result.rows as Array<Array<unknown>>, "array"),
    // A server-side cursor needs another package, and holds a connection for as long as its consumer likes.
    executeStream: (text, params) => Stream.unwrap(Effect.map(rows(text, params, undefined), Stream.fromIterable))
  }
}
