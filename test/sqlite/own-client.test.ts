/**
 * The stores beside an application's own `SqliteClient`: one connection for both, one transaction for both, and what the
 * client leaves open is no defect to those who call the stores.
 */
import * as path from "node:path"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { assert, it } from "@effect/vitest"
import Sqlite from "better-sqlite3"
import { Context, Effect, Layer } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { beforeAll, describe } from "vitest"
import { temporaryDirectory } from "../support/backends.js"
import { contract, event, newStream } from "../support/ownClient.js"

type Application = EventStore.EventStore | SqlClient.SqlClient | SqliteDatabase.SqliteDatabase

describe("the stores beside an application's SqliteClient", () => {
  const filename = path.join(temporaryDirectory(), "application.db")
  beforeAll(() => {
    const db = new Sqlite(filename)
    db.exec(`create table rows (id text primary key);
      create table parents (id int primary key);
      create table children (parent int references parents (id) deferrable initially deferred)`)
    db.close()
  })

  const layer = EventStoreSqlite.layerFromDatabase().pipe(
    Layer.provideMerge(SqliteDatabase.layerFromClient),
    Layer.provideMerge(SqliteClient.layer({ filename }))
  )
  const test = <A, E>(title: string, self: Effect.Effect<A, E, Application>) =>
    it.live(title, () => Effect.provide(self, layer))

  const services = Effect.all({
    store: EventStore.EventStore,
    sql: SqlClient.SqlClient,
    database: SqliteDatabase.SqliteDatabase
  })

  contract<Application>({
    test,
    services,
    database: "SqliteDatabase",
    events: [event, event],
    elsewhere: Effect.map(Layer.build(Layer.fresh(SqliteClient.layer({ filename: ":memory:" }))), (built) =>
      Context.unsafeGet(built, SqlClient.SqlClient)
    ),
    failing: { "a COMMIT that fails": (sql) => sql`insert into children values (${crypto.randomUUID()})` }
  })

  test(
    "a transaction that a failed COMMIT of the client has left open swallows no append",
    Effect.gen(function* () {
      const { sql, store } = yield* services
      const [undone, kept] = [newStream(), newStream()]
      const append = (stream: EventStore.StreamId) => store.append(stream, [event], { expected: "noStream" })
      const failed = yield* Effect.exit(
        sql.withTransaction(Effect.zipRight(append(undone), sql`insert into children values (${crypto.randomUUID()})`))
      )
      assert.strictEqual(failed._tag, "Failure")
      yield* append(kept)
      const others = new Sqlite(filename, { readonly: true })
      const rows = others.prepare("select aggregate_id from es_events").pluck().all()
      others.close()
      assert.notInclude(rows, undone.aggregateId)
      assert.include(rows, kept.aggregateId)
    })
  )

  test(
    "what waits for the one connection can be interrupted, and has done nothing",
    Effect.gen(function* () {
      const { database, sql, store } = yield* services
      const stream = newStream()
      const append = store.append(stream, [event], { expected: "any" })
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* sql.reserve
          const late = yield* Effect.timeoutOption(append, "50 millis")
          assert.strictEqual(late._tag, "None")
        })
      )
      assert.strictEqual(yield* store.version(stream), 0)
      yield* append
      assert.deepEqual(yield* database.health, { status: "up" })
    })
  )

  it.live("a client of another kind is refused, typed", () =>
    Effect.gen(function* () {
      const own = Layer.provide(SqliteDatabase.layerSqlClient, SqliteDatabase.layer({ filename: ":memory:" }))
      const refused = yield* Effect.flip(Effect.scoped(Layer.build(Layer.provide(SqliteDatabase.layerFromClient, own))))
      assert.strictEqual(refused._tag, "StoreError")
    })
  )
})
