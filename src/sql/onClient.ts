/**
 * What holds on the `SqlClient` of an application that has one: which of its transactions a fiber is in, and
 * transactions that are the client's to all who ask for its connection, and ours in how they end.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
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

/** Runs a statement as it is. */
export const command = (connection: Connection, text: string): Effect.Effect<unknown, SqlError> =>
  connection.executeRaw(text, [])

/** The client's connections as the stores take them, and how many they use and wait for. */
export const counted = <E>(
  reserve: Effect.Effect<Connection, SqlError, Scope.Scope>,
  failure: (cause: unknown) => E
): {
  readonly counts: { readonly used: number; readonly waiting: number }
  readonly acquire: Effect.Effect<Connection, E, Scope.Scope>
} => {
  const counts = { used: 0, waiting: 0 }
  const using = Effect.acquireRelease(
    Effect.sync(() => counts.used++),
    () => Effect.sync(() => counts.used--)
  )
  const acquire = Effect.suspend(() => {
    counts.waiting++
    return Effect.ensuring(
      Effect.mapError(reserve, ({ cause }) => failure(cause)),
      Effect.sync(() => counts.waiting--)
    )
  })
  return { counts, acquire: Effect.tap(acquire, () => using) }
}

export interface OnClient {
  /** Of the span `sql.transaction`, which the package makes of each transaction. */
  readonly system: string
  /** A connection for the outermost transaction. */
  readonly acquire: Effect.Effect<Connection, StoreFailure, Scope.Scope>
  /** Whether the fiber is in a transaction of the client. */
  readonly inTransaction: (fiber: InContext) => boolean
  readonly begin: string
  /** If it fails, no transaction is open any more. */
  readonly commit: (connection: Connection) => Effect.Effect<unknown, SqlError>
  readonly failure: (cause: unknown, kind: "read" | "write", operation: string) => StoreFailure
}

/**
 * 1. Waits for a connection, unless the fiber is in a transaction of the client.
 * 2. BEGIN, or a savepoint there. What the client runs in the effect finds the connection as in its own transactions.
 * 3. The effect; then COMMIT. Its failure, which is a defect of the package, is a failure. One of ROLLBACK never hides
 *    the first cause.
 */
export const transactionOn = ({ acquire, begin, commit, failure, inTransaction, system }: OnClient) => {
  const on = <A, E, R>(connection: Connection | undefined, self: Effect.Effect<A, E, R>) => {
    let exit: Exit.Exit<A, E> | undefined
    const noted = Effect.onExit(self, (found) =>
      Effect.sync(() => {
        exit = found
      })
    )
    const run = SqlClient.makeWithTransaction({
      transactionTag: SqlClient.TransactionConnection,
      spanAttributes: [["db.system.name", system]],
      // Inside a transaction it is not asked for.
      acquireConnection: Effect.sync(() => [undefined, connection as Connection] as const),
      begin: (own) => Effect.asVoid(command(own, begin)),
      savepoint: (own, id) => Effect.asVoid(command(own, `savepoint effect_sql_${id}`)),
      commit: (own) => Effect.asVoid(commit(own)),
      rollback: (own) => Effect.ignore(command(own, "rollback")),
      rollbackSavepoint: (own, id) => Effect.ignore(command(own, `rollback to savepoint effect_sql_${id}`))
    })
    return Effect.catchAllCause(run(noted), (cause): Effect.Effect<never, E | StoreFailure> => {
      if (exit !== undefined && Exit.isFailure(exit)) return Effect.failCause(exit.cause)
      const error = sqlErrorIn(cause)
      if (error === undefined) return Effect.failCause(cause as Cause.Cause<never>)
      return Effect.fail(
        exit === undefined ? failure(error.cause, "read", "BEGIN") : failure(error.cause, "write", "COMMIT")
      )
    })
  }

  return <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | StoreFailure, R> =>
    Effect.withFiberRuntime<A, E | StoreFailure, R>((fiber) => {
      if (inTransaction(fiber)) return on(undefined, self)
      return Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Scope.make(), (scope) =>
          restore(Scope.extend(acquire, scope)).pipe(
            // Another client's transaction is none of this one.
            Effect.flatMap((connection) =>
              Effect.mapInputContext(restore(on(connection, self)), withoutTransaction<R>)
            ),
            Effect.onExit((exit) => Scope.close(scope, exit))
          )
        )
      )
    })
}

const withoutTransaction = <R>(context: Context.Context<R>): Context.Context<R> =>
  Context.omit(SqlClient.TransactionConnection)(
    context as Context.Context<R | SqlClient.TransactionConnection>
  ) as Context.Context<R>

const sqlErrorIn = (cause: Cause.Cause<unknown>): SqlError | undefined =>
  Chunk.toReadonlyArray(Chunk.appendAll<unknown, unknown>(Cause.failures(cause), Cause.defects(cause))).find(
    (error) => error instanceof SqlError
  )
