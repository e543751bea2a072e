/**
 * The user's own SQL: what an `SqlClient` of @effect/sql is on every database. The statement builder and the compilers
 * are taken from the packages. Transactions are ours, because the package's share one key among all databases of a
 * program, end in a defect when COMMIT fails, and can't be interrupted while they wait.
 */
import type * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Statement from "@effect/sql/Statement"
import * as Effect from "effect/Effect"
import type { StoreFailure } from "../Errors.js"

/** What is a database's own in its client. */
export interface Parts {
  /** The `db.system.name` of spans. */
  readonly system: string
  readonly compiler: Statement.Compiler
  readonly connection: Connection
  readonly reserve: SqlClient.SqlClient["reserve"]
  readonly withTransaction: SqlClient.SqlClient["withTransaction"]
  readonly reactivity: Reactivity.Reactivity.Service
}

export const make = (parts: Parts): SqlClient.SqlClient => {
  const { compiler, connection, reactivity, reserve, system, withTransaction } = parts
  const base = Object.assign(
    Statement.make(Effect.succeed(connection), compiler, [["db.system.name", system]], undefined),
    {
      [SqlClient.TypeId]: SqlClient.TypeId as SqlClient.TypeId,
      reserve,
      withTransaction,
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

/** As everywhere in @effect/sql, the cause of a statement's error is the driver's error. */
export const statementError = (error: StoreFailure): SqlError => driverError("cause" in error ? error.cause : error)

export const driverError = (cause: unknown): SqlError => new SqlError({ message: "Failed to execute statement", cause })

export const transactionError = (error: StoreFailure): SqlError =>
  new SqlError({ message: error.message, cause: error })
