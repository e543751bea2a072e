/**
 * A database on the connection of an application's own `SqliteClient`: single steps, and transactions that are the
 * client's.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import * as Effect from "effect/Effect"
import { type ReadFailure, StoreError, type StoreFailure } from "../../Errors.js"
import * as Health from "../../Health.js"
import type { PoolState } from "../../sql/ConnectionPool.js"
import * as onClient from "../../sql/onClient.js"
import type { InContext } from "../../sql/transactions.js"
import type { StoreAccess } from "../database/access.js"
import { commitFailure } from "../database/connection.js"
import { failure } from "../database/failures.js"
import type { StoreStep } from "../database/steps.js"
import { ClientConnection } from "./connection.js"

export interface OnClient {
  readonly access: StoreAccess
  readonly state: Effect.Effect<PoolState>
  readonly health: Effect.Effect<Health.Health>
}

/** The file of a client of @effect/sql-sqlite-node, which is not imported: only some applications have it. */
const filenameOf = (client: SqlClient.SqlClient): Effect.Effect<string, StoreError> => {
  const config: unknown = "config" in client ? client.config : undefined
  return typeof config === "object" && config !== null && "filename" in config && typeof config.filename === "string"
    ? Effect.succeed(config.filename)
    : Effect.fail(new StoreError({ operation: "opening", cause: new Error("needs a SqliteClient of sql-sqlite-node") }))
}

export const make = (client: SqlClient.SqlClient): Effect.Effect<OnClient, StoreFailure> =>
  Effect.gen(function* () {
    const filename = yield* filenameOf(client)
    const { acquire, counts } = onClient.counted(client.reserve, (cause) => failure("connecting", cause))

    // The client has one connection, which is free or reserved.
    const own: Connection = yield* Effect.scoped(acquire)
    const inTransaction = (fiber: InContext) => onClient.connectionOf(fiber) === own

    const attempt = <A>(operation: string, step: StoreStep<A>, isInside: boolean): Effect.Effect<A, StoreFailure> =>
      Effect.suspend(() => {
        const connection = new ClientConnection(own, isInside)
        try {
          if (!isInside) connection.endLeftOver()
          return Effect.succeed(step(connection))
        } catch (error) {
          return Effect.fail(failure(operation, error))
        }
      })

    const run = <A>(operation: string, step: StoreStep<A>): Effect.Effect<A, StoreFailure> =>
      Effect.withFiberRuntime<A, StoreFailure>((fiber) =>
        inTransaction(fiber)
          ? attempt(operation, step, true)
          : Effect.scoped(Effect.zipRight(acquire, attempt(operation, step, false)))
      )

    // In a transaction nobody says when it commits. A hint that comes too early is one too many: readers poll.
    const write: StoreAccess["write"] = (operation, step, committed) =>
      run(operation, (connection) => {
        const value = step(connection)
        committed?.(value)
        return value
      })

    const access: StoreAccess = {
      connection: filename,
      transaction: onClient.transactionOn({
        system: "sqlite",
        acquire,
        inTransaction,
        begin: "begin immediate",
        commit: (connection) =>
          Effect.tapError(onClient.command(connection, "commit"), () =>
            Effect.ignore(onClient.command(connection, "rollback"))
          ),
        failure: (cause, kind, operation) =>
          failure(operation, kind === "write" ? commitFailure(operation, cause) : cause)
      }),
      inTransaction,
      write,
      writeGrouped: write,
      // A step that only reads has nothing to commit.
      read: <A>(operation: string, step: StoreStep<A>) => run(operation, step) as Effect.Effect<A, ReadFailure>
    }
    return {
      access,
      state: Effect.sync(() => ({ open: 1, idle: 1 - counts.used, waiting: counts.waiting })),
      health: Health.make(
        Effect.suspend(
          (): Effect.Effect<"up" | "busy", ReadFailure> =>
            counts.used > 0
              ? Effect.succeed("busy")
              : access.read("health", (connection) => {
                  connection.prepare("SELECT count(*) FROM sqlite_schema").get()
                  return "up"
                })
        )
      )
    }
  })
