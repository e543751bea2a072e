/**
 * A database on the connections of an application's own `PgClient`: single statements, and transactions that are the
 * client's.
 */
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type Pg from "pg"
import { isStoreFailure, type ReadFailure, StoreError, type StoreFailure } from "../../Errors.js"
import * as Health from "../../Health.js"
import * as Pool from "../../Pool.js"
import type { PoolState } from "../../sql/ConnectionPool.js"
import * as onClient from "../../sql/onClient.js"
import type { InContext } from "../../sql/transactions.js"
import { type Isolation, rolledBack, type Statement, type StoreAccess } from "../database/access.js"
import { types } from "../database/connection.js"
import { classify, type FailureOf, type QueryKind } from "../database/failures.js"
import { describeConnection } from "../database/settings.js"

export interface OnClient {
  readonly access: StoreAccess
  readonly transaction: <A, E, R>(
    self: Effect.Effect<A, E, R>,
    isolation: Isolation
  ) => Effect.Effect<A, E | StoreFailure, R>
  readonly state: Effect.Effect<PoolState>
  readonly health: Effect.Effect<Health.Health>
}

/** What the driver opens without being told otherwise. */
const maxConnectionsByDefault = 10

const command = (text: string, operation: string): Statement<void, "read"> => ({
  text,
  operation,
  kind: "read",
  onResult: () => undefined
})

/** COMMIT of a transaction in which a statement failed rolls back, without an error. */
const commit = (connection: Connection): Effect.Effect<void, SqlError> =>
  Effect.flatMap(onClient.command(connection, "commit"), (result) =>
    (result as Pg.QueryResult).command === "COMMIT"
      ? Effect.void
      : Effect.fail(new SqlError({ message: "COMMIT", cause: rolledBack() }))
  )

const failure = (cause: unknown, kind: QueryKind, operation: string): StoreFailure =>
  isStoreFailure(cause) ? cause : classify(cause, kind, operation)

export const make = (client: PgClient.PgClient): Effect.Effect<OnClient, ReadFailure> =>
  Effect.gen(function* () {
    const { config } = client
    const limits = { ...Pool.defaults.eventStore.pg, maxOpenConns: config.maxConnections ?? maxConnectionsByDefault }
    const { acquire, counts } = onClient.counted(client.reserve, (cause) => classify(cause, "read", "connecting"))

    // Each client has a class of connections of its own.
    const own: unknown = yield* Effect.uninterruptible(
      Effect.scoped(Effect.map(acquire, ({ constructor }) => constructor))
    )
    const current = (fiber: InContext): Connection | undefined => {
      const found = onClient.connectionOf(fiber)
      return found?.constructor === own ? found : undefined
    }
    const inTransaction = (fiber: InContext) => current(fiber) !== undefined

    const on = <A, K extends QueryKind>(
      connection: Connection,
      query: Statement<A, K>
    ): Effect.Effect<A, FailureOf<K>> =>
      Effect.matchEffect(connection.executeRaw(...sent(query)), {
        onFailure: ({ cause }) => Effect.fail(classify(cause, query.kind, query.operation)),
        onSuccess: (result) =>
          Effect.try({
            try: () => query.onResult(result as Pg.QueryResult),
            catch: (cause) => new StoreError({ operation: query.operation, cause })
          })
      })

    /**
     * Interrupted only between connection and statement: the client would lose the connection of one who leaves while
     * waiting for it, and would have the server cancel whatever the connection runs when the request arrives.
     */
    const run = <A, K extends QueryKind>(query: Statement<A, K>): Effect.Effect<A, FailureOf<K>> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.withFiberRuntime<A, FailureOf<K>>((fiber) => {
          const inside = current(fiber)
          return inside !== undefined
            ? on(inside, query)
            : Effect.scoped(
                Effect.flatMap(acquire, (connection) => Effect.zipRight(restore(Effect.void), on(connection, query)))
              )
        })
      )

    const submit = <A>(query: Statement<A>, done: (exit: Exit.Exit<A, StoreFailure>) => void): Effect.Effect<void> => {
      const fiber = Effect.runFork(run(query))
      fiber.addObserver(done)
      return Effect.asVoid(Fiber.interrupt(fiber))
    }

    const inClient = onClient.transactionOn({
      system: "postgresql",
      acquire: Effect.uninterruptible(acquire),
      inTransaction,
      begin: "begin",
      commit,
      failure
    })
    const transaction = <A, E, R>(self: Effect.Effect<A, E, R>, isolation: Isolation) =>
      Effect.withFiberRuntime<A, E | StoreFailure, R>((fiber) =>
        inTransaction(fiber) || isolation === "read committed"
          ? inClient(self)
          : inClient(Effect.zipRight(run(command(`set transaction isolation level ${isolation}`, "BEGIN")), self))
      )

    const ask: Effect.Effect<"up" | "busy", ReadFailure> = Effect.suspend(() =>
      counts.used >= limits.maxOpenConns
        ? Effect.succeed("busy" as const)
        : Effect.async<"up", ReadFailure>((resume) => {
            // It cannot be interrupted, and nobody should wait for it.
            Effect.runFork(run(command("select 1", "health"))).addObserver((exit) => resume(Exit.as(exit, "up")))
          })
    )

    return {
      access: {
        connection: describeConnection({
          host: config.host ?? "localhost",
          port: config.port ?? 5432,
          database: config.database ?? config.username ?? "postgres"
        }),
        transaction: (self) => transaction(self, "read committed"),
        run,
        // In a transaction nobody says when it commits. A hint that comes too early is one too many: readers poll.
        write: (query, committed) => Effect.tap(run(query), (value) => Effect.sync(() => committed(value))),
        // The client sends one statement at a time.
        writeGrouped: run,
        submit,
        inTransaction,
        limits,
        settings: { pooled: true, groupCommit: true, listener: undefined }
      },
      transaction,
      state: Effect.sync(() => ({ open: counts.used, idle: 0, waiting: counts.waiting })),
      health: Health.make(ask)
    }
  })

/** The driver takes a description in place of the text. What it returns is read as the stores read it. */
const sent = ({ rowMode, text, values = [] }: Statement<unknown>): Parameters<Connection["executeRaw"]> => [
  { text, rowMode, types } as unknown as string,
  values
]
