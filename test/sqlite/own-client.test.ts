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

type Application = EventStore.EventStore | SqlClient.SqlClient | SqliteDatabase.SqliteDatabase

const newStream = () => ({ tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() })
const event = { type: "Happened", data: { n: 1 } }

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

  for (const begin of ["sql.withTransaction", "SqliteDatabase.transaction"] as const) {
    test(
      `${begin} is one for both: appends and the application's rows are there together or not at all`,
      Effect.gen(function* () {
        const { database, sql, store } = yield* services
        const inside = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, unknown> =>
          begin === "SqliteDatabase.transaction" ? database.transaction(self) : sql.withTransaction(self)
        const [kept, undone] = [newStream(), newStream()]
        const place = (stream: EventStore.StreamId) =>
          Effect.gen(function* () {
            yield* store.append(stream, [event, event], { expected: "noStream" })
            yield* sql`insert into rows values (${stream.aggregateId})`
            assert.strictEqual(yield* store.version(stream), 2)
          })
        yield* inside(place(kept))
        assert.strictEqual(yield* Effect.flip(inside(Effect.zipRight(place(undone), Effect.fail("undone")))), "undone")
        // An inner one that fails, and is caught, undoes its own writes only.
        const partly = newStream()
        yield* inside(
          Effect.zipRight(place(partly), Effect.flip(inside(Effect.zipRight(place(undone), Effect.fail(0)))))
        )
        assert.deepEqual(yield* Effect.forEach([kept, undone, partly], store.version), [2, 0, 2])
        const ids = [kept, undone, partly].map(({ aggregateId }) => aggregateId)
        assert.lengthOf(yield* sql`select * from rows where ${sql.in("id", ids)}`, 2)
      })
    )
  }

  test(
    "a transaction of another client is not taken for one of this database's",
    Effect.gen(function* () {
      const { store } = yield* services
      const elsewhere = Context.unsafeGet(
        yield* Layer.build(Layer.fresh(SqliteClient.layer({ filename: ":memory:" }))),
        SqlClient.SqlClient
      )
      const stream = newStream()
      const append = store.append(stream, [event], { expected: "noStream" })
      assert.strictEqual(
        yield* Effect.flip(elsewhere.withTransaction(Effect.zipRight(append, Effect.fail("undone")))),
        "undone"
      )
      assert.strictEqual(yield* store.version(stream), 1)
    }).pipe(Effect.scoped)
  )

  test(
    "a COMMIT that fails is a typed failure, and nothing of the transaction is there",
    Effect.gen(function* () {
      const { database, sql, store } = yield* services
      const stream = newStream()
      const failed = yield* Effect.flip(
        database.transaction(
          Effect.zipRight(
            store.append(stream, [event], { expected: "noStream" }),
            sql`insert into children values (${crypto.randomUUID()})`
          )
        )
      )
      assert.strictEqual(failed._tag, "StoreError")
      assert.strictEqual(yield* store.version(stream), 0)
      // The next one begins, so the one before it has ended.
      yield* database.transaction(store.append(stream, [event], { expected: "noStream" }))
    })
  )

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
