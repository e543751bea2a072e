/**
 * What holds on the `SqlClient` of an application that has one: which of its transactions a fiber is in, and
 * transactions whose COMMIT may fail without a defect.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { StoreFailure } from "../Errors.js"
import type { InContext } from "./transactions.js"

/**
 * The connection of the transaction that the fiber is in. All clients of a program share one key, so it may be another
 * client's.
 */
export const connectionOf = (fiber: InContext): Connection | undefined =>
  (
    fiber.currentContext.unsafeMap.get(SqlClient.TransactionConnection.key) as readonly [Connection, number] | undefined
  )?.[0]

export interface OnClient {
  readonly client: SqlClient.SqlClient
  /** Whether the fiber is in a transaction of the client. */
  readonly inTransaction: (fiber: InContext) => boolean
  /** What the outermost transaction does before its COMMIT. */
  readonly beforeCommit: Effect.Effect<void, StoreFailure>
  readonly failure: (cause: unknown, kind: "read" | "write", operation: string) => StoreFailure
}

/**
 * 1. The client begins, or makes a savepoint in its own transaction.
 * 2. The effect, and what is to be done before COMMIT.
 * 3. A failed COMMIT, which is a defect of the client, is a failure. One of ROLLBACK never hides the first cause.
 */
export const transactionOn =
  ({ beforeCommit, client, failure, inTransaction }: OnClient) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | StoreFailure, R> =>
    Effect.withFiberRuntime<A, E | StoreFailure, R>((fiber) => {
      let exit: Exit.Exit<A, E | StoreFailure> | undefined
      const whole = inTransaction(fiber) ? self : Effect.zipLeft(self, beforeCommit)
      const noted = Effect.onExit(whole, (found) =>
        Effect.sync(() => {
          exit = found
        })
      )
      return Effect.catchAllCause(client.withTransaction(noted), (cause) => {
        if (exit !== undefined && Exit.isFailure(exit)) return Effect.failCause(exit.cause)
        const error = sqlErrorIn(cause)
        if (error === undefined) return Effect.failCause(cause as Cause.Cause<never>)
        return Effect.fail(
          exit === undefined ? failure(error.cause, "read", "BEGIN") : failure(error.cause, "write", "COMMIT")
        )
      })
    })

const sqlErrorIn = (cause: Cause.Cause<unknown>): SqlError | undefined =>
  Chunk.toReadonlyArray(Chunk.appendAll<unknown, unknown>(Cause.failures(cause), Cause.defects(cause))).find(
    (error) => error instanceof SqlError
  )
