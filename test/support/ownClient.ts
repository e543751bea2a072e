/**
 * What holds of the stores beside an application's own client, whatever the database: one transaction for both, and
 * transactions of others are others'.
 */
import type { SqlClient, SqlError } from "@effect/sql"
import { assert } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import type { Errors, EventStore } from "effect-stores"

export const newStream = () => ({ tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() })
export const event = { type: "Happened", data: { n: 1 } }

export interface Services {
  readonly store: EventStore.EventStoreShape
  readonly sql: SqlClient.SqlClient
  readonly database: {
    readonly transaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Errors.StoreFailure, R>
  }
}

export interface OwnClient<R> {
  readonly test: (title: string, self: Effect.Effect<void, unknown, R>) => void
  readonly services: Effect.Effect<Services, never, R>
  /** Names the database's own `transaction`. */
  readonly database: string
  /** What an append of the tests has. */
  readonly events: ReadonlyArray<EventStore.NewEvent>
  /** Another client, of another database. There is a table `rows` with a text `id` in the first. */
  readonly elsewhere: Effect.Effect<SqlClient.SqlClient, unknown, Scope.Scope>
  /** Statements by which a COMMIT of the database fails, each by its title. */
  readonly failing: Readonly<Record<string, (sql: SqlClient.SqlClient) => Effect.Effect<unknown, SqlError.SqlError>>>
}

export const contract = <R>({ database, elsewhere, events, failing, services, test }: OwnClient<R>): void => {
  const appended = events.length

  for (const begin of ["sql.withTransaction", `${database}.transaction`]) {
    test(
      `${begin} is one for both: appends and the application's rows are there together or not at all`,
      Effect.gen(function* () {
        const { database, sql, store } = yield* services
        const inside = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, unknown> =>
          begin === "sql.withTransaction" ? sql.withTransaction(self) : database.transaction(self)
        const [kept, undone] = [newStream(), newStream()]
        const place = (stream: EventStore.StreamId) =>
          Effect.gen(function* () {
            yield* store.append(stream, events, { expected: "noStream" })
            yield* sql`insert into rows values (${stream.aggregateId})`
            assert.strictEqual(yield* store.version(stream), appended)
          })
        yield* inside(place(kept))
        assert.strictEqual(yield* Effect.flip(inside(Effect.zipRight(place(undone), Effect.fail("undone")))), "undone")
        // An inner one that fails, and is caught, undoes its own writes only.
        const partly = newStream()
        yield* inside(
          Effect.zipRight(place(partly), Effect.flip(inside(Effect.zipRight(place(undone), Effect.fail(0)))))
        )
        assert.deepEqual(yield* Effect.forEach([kept, undone, partly], store.version), [appended, 0, appended])
        const ids = [kept, undone, partly].map(({ aggregateId }) => aggregateId)
        assert.lengthOf(yield* sql`select * from rows where ${sql.in("id", ids)}`, 2)
      })
    )
  }

  test(
    "a transaction of another client is not taken for one of this database's",
    Effect.gen(function* () {
      const { store } = yield* services
      const other = yield* elsewhere
      const stream = newStream()
      const append = store.append(stream, [event], { expected: "noStream" })
      assert.strictEqual(
        yield* Effect.flip(other.withTransaction(Effect.zipRight(append, Effect.fail("undone")))),
        "undone"
      )
      assert.strictEqual(yield* store.version(stream), 1)
    }).pipe(Effect.scoped)
  )

  for (const [title, statement] of Object.entries(failing)) {
    test(
      `${title} is a typed failure, nothing of the transaction is there, and the next one begins`,
      Effect.gen(function* () {
        const { database, sql, store } = yield* services
        const stream = newStream()
        const append = store.append(stream, [event], { expected: "noStream" })
        const failed = yield* Effect.flip(database.transaction(Effect.zipRight(append, statement(sql))))
        assert.strictEqual(failed._tag, "StoreError")
        assert.strictEqual(yield* store.version(stream), 0)
        yield* database.transaction(append)
      })
    )
  }
}
