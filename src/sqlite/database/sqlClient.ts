/**
 * The user's own SQL: an `SqlClient` of @effect/sql over the connections of a `SqliteDatabase`.
 */
import type * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as Statement from "@effect/sql/Statement"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { StoreFailure } from "../../Errors.js"
import * as sqlClient from "../../sql/sqlClient.js"
import { driverError, statementError, transactionError } from "../../sql/sqlClient.js"
import type { InContext } from "../../sql/transactions.js"
import type { Transaction, Transactions } from "./access.js"
import type { Mode, SqliteConnection } from "./connection.js"
import { type SqlitePool, type Step, use } from "./steps.js"

export interface SqlClientOptions {
  readonly transactions: Transactions
  /** The transaction that a statement of this fiber runs in. */
  readonly current: (fiber: InContext) => Transaction | undefined
  readonly reactivity: Reactivity.Reactivity.Service
  /** Connections for streams of rows outside a transaction; absent: rows are collected first. */
  readonly streaming: SqlitePool | undefined
}

const streamChunk = 128

export const make = (options: SqlClientOptions): SqlClient.SqlClient => {
  const { current, reactivity, streaming, transactions } = options

  const anywhere = (
    text: string,
    params: ReadonlyArray<unknown>,
    mode: Mode
  ): Effect.Effect<ReadonlyArray<never>, SqlError> =>
    Effect.withFiberRuntime<ReadonlyArray<never>, StoreFailure>((fiber) => {
      const safeIntegers = Context.get(fiber.currentContext, SqlClient.SafeIntegers)
      const transaction = current(fiber)
      const step: Step<ReadonlyArray<never>> = (connection) => statement(connection, text, params, mode, safeIntegers)
      return transaction === undefined ? use(transactions.pool, "statement", step) : transaction.use("statement", step)
    }).pipe(Effect.mapError(statementError))

  const connection = connectionOf(anywhere, (text, params) =>
    Effect.withFiberRuntime<Stream.Stream<unknown, SqlError>, SqlError, Scope.Scope>((fiber) =>
      streaming === undefined || current(fiber) !== undefined
        ? Effect.map(anywhere(text, params, "objects"), chunked)
        : Effect.map(Effect.mapError(streaming.acquire, statementError), (reader) => iterate(reader, text, params))
    )
  )

  const reserved: Effect.Effect<SqliteConnection, SqlError, Scope.Scope> = Effect.flatMap(
    Effect.mapError(transactions.pool.acquire, statementError),
    (own) => Effect.as(endTransaction(own), own)
  )

  const reserve: Effect.Effect<Connection, SqlError, Scope.Scope> = Effect.withFiberRuntime((fiber) =>
    current(fiber) === undefined
      ? Effect.map(reserved, (own) => {
          const direct = (text: string, params: ReadonlyArray<unknown>, mode: Mode) =>
            Effect.try({
              try: () => own.query(text, params, mode, false) as ReadonlyArray<never>,
              catch: driverError
            })
          return connectionOf(direct, (text, params) => Effect.map(direct(text, params, "objects"), chunked))
        })
      : Effect.succeed(connection)
  )

  return sqlClient.make({
    system: "sqlite",
    compiler: Statement.makeCompilerSqlite(),
    connection,
    reserve,
    withTransaction: (self) => transactions.run(self, transactionError),
    reactivity
  })
}

/** A transaction that the user left open would swallow the next statements. */
const endTransaction = (own: SqliteConnection): Effect.Effect<void, never, Scope.Scope> =>
  Effect.addFinalizer(() =>
    Effect.sync(() => {
      if (own.db.inTransaction) own.rollback()
    })
  )

/** Runs one statement. It must leave the connection as it was: inside a transaction or not. */
const statement = (
  connection: SqliteConnection,
  text: string,
  params: ReadonlyArray<unknown>,
  mode: Mode,
  safeIntegers: boolean
): ReadonlyArray<never> => {
  const { inTransaction } = connection.db
  const rows = connection.query(text, params, mode, safeIntegers)
  if (connection.db.inTransaction !== inTransaction) {
    connection.rollback()
    throw new Error("BEGIN, COMMIT and ROLLBACK are not for statements: use withTransaction")
  }
  return rows as ReadonlyArray<never>
}

const connectionOf = (
  run: (text: string, params: ReadonlyArray<unknown>, mode: Mode) => Effect.Effect<ReadonlyArray<never>, SqlError>,
  stream: (
    text: string,
    params: ReadonlyArray<unknown>
  ) => Effect.Effect<Stream.Stream<unknown, SqlError>, SqlError, Scope.Scope>
): Connection => ({
  execute: (text, params, transform) => {
    const rows = run(text, params, "objects")
    return transform === undefined ? rows : Effect.map(rows, transform)
  },
  executeRaw: (text, params) => run(text, params, "raw"),
  executeValues: (text, params) => run(text, params, "arrays"),
  executeUnprepared: (text, params, transform) => {
    const rows = run(text, params, "objects")
    return transform === undefined ? rows : Effect.map(rows, transform)
  },
  executeStream: (text, params) => Stream.unwrapScoped(stream(text, params))
})

const chunked = (rows: ReadonlyArray<unknown>): Stream.Stream<unknown> =>
  Stream.rechunk(Stream.fromIterable(rows), streamChunk)

const iterate = (
  connection: SqliteConnection,
  text: string,
  params: ReadonlyArray<unknown>
): Stream.Stream<unknown, SqlError> => {
  const rows = Effect.acquireRelease(
    Effect.try({ try: () => connection.iterate(text, params, false), catch: driverError }),
    (iterator) => Effect.sync(() => iterator.return?.())
  )
  return Stream.unwrapScoped(
    Effect.map(rows, (iterator) =>
      Stream.repeatEffectChunkOption(
        Effect.suspend(() => {
          const chunk: Array<unknown> = []
          try {
            while (chunk.length < streamChunk) {
              const next = iterator.next()
              if (next.done === true) break
              chunk.push(next.value)
            }
          } catch (cause) {
            return Effect.fail(Option.some(driverError(cause)))
          }
          return chunk.length === 0 ? Effect.fail(Option.none()) : Effect.succeed(Chunk.unsafeFromArray(chunk))
        })
      )
    )
  )
}
