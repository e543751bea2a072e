/**
 * An application's own SQL that names no backend: migrations, repositories and resolvers of @effect/sql over the
 * `SqlClient` of either database. What they do in a transaction of the database belongs to it.
 */
import * as path from "node:path"
import { Migrator, Model, SqlClient, SqlResolver, SqlSchema } from "@effect/sql"
import { Cause, Effect, Exit, Layer, Option, Redacted, Schema } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { beforeAll, describe, expect, it } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "./support/backends.js"

type Application = EventStore.EventStore | SqlClient.SqlClient

class Customer extends Model.Class<Customer>("Customer")({
  id: Schema.String,
  orders: Schema.Number
}) {}

const repository = Model.makeRepository(Customer, {
  tableName: "customers",
  spanPrefix: "Customer",
  idColumn: "id"
})

const table = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`create table customers (id varchar(255) primary key, orders integer not null)`
)

const migrate = (loader: Migrator.Loader) => Migrator.make({})({ loader })

const newStream = () => ({ tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() })

const tests = (layer: () => Layer.Layer<Application, unknown>) => {
  /** In one layer, one after the other: the first creates the table. */
  const run = <A, E>(self: Effect.Effect<A, E, Application>) => Effect.runPromise(Effect.provide(self, layer()))

  it("migrates once, and not at all if a migration fails", () =>
    run(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const first = Migrator.fromRecord({ "0001_customers": table })
        expect(yield* migrate(first)).toEqual([[1, "customers"]])
        expect(yield* migrate(first)).toEqual([])
        const second = Migrator.fromRecord({
          "0001_customers": table,
          "0002_notes": sql`create table notes (text varchar(255))`,
          "0003_broken": sql`create table customers (id varchar(255))`
        })
        const failed = yield* Effect.exit(migrate(second))
        expect(Exit.isFailure(failed) && Cause.pretty(failed.cause)).toContain("3_broken")
        // The second is undone with the third.
        yield* sql`create table notes (text varchar(255))`
        yield* sql`drop table notes`
      })
    ))

  it("a repository's writes and an append are there together or not at all", () =>
    run(
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const sql = yield* SqlClient.SqlClient
        const customers = yield* repository
        const [kept, undone] = [newStream(), newStream()]
        const place = (stream: EventStore.StreamId) =>
          Effect.zipRight(
            store.append(stream, [{ type: "Placed", data: 1 }], { expected: "noStream" }),
            customers.insert({ id: stream.aggregateId, orders: 1 })
          )
        yield* sql.withTransaction(place(kept))
        const failed = sql.withTransaction(
          Effect.gen(function* () {
            yield* place(undone)
            expect(Option.isSome(yield* customers.findById(undone.aggregateId))).toBe(true)
            yield* Effect.fail("undone")
          })
        )
        expect(yield* Effect.flip(failed)).toBe("undone")
        expect(Option.isSome(yield* customers.findById(kept.aggregateId))).toBe(true)
        expect(Option.isNone(yield* customers.findById(undone.aggregateId))).toBe(true)
        expect([yield* store.version(kept), yield* store.version(undone)]).toEqual([1, 0])
      })
    ))

  for (const withContext of [false, true]) {
    it(`a resolver ${withContext ? "with a context" : "without one"} reads and writes in the transaction`, () =>
      run(
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const customers = yield* repository
          const find = yield* SqlResolver.findById("Find", {
            Id: Schema.String,
            Result: Schema.Struct({ id: Schema.String, orders: Schema.Number }),
            ResultId: ({ id }) => id,
            execute: (ids) => sql<object>`select * from customers where ${sql.in("id", ids)}`,
            withContext: withContext as true
          })
          const add = yield* SqlResolver.void("Add", {
            Request: Schema.Struct({ id: Schema.String, orders: Schema.Number }),
            execute: (rows) => sql`insert into customers ${sql.insert(rows)}`,
            withContext: withContext as true
          })
          const ids = [crypto.randomUUID(), crypto.randomUUID()]
          const failed = sql.withTransaction(
            Effect.gen(function* () {
              yield* customers.insert({ id: ids[0] as string, orders: 3 })
              yield* add.execute({ id: ids[1] as string, orders: 4 })
              const found = yield* Effect.forEach(ids, (id) => find.execute(id), { batching: true })
              expect(found).toEqual(ids.map((id, i) => Option.some({ id, orders: 3 + i })))
              yield* Effect.fail("undone")
            })
          )
          expect(yield* Effect.flip(failed)).toBe("undone")
          expect(yield* Effect.forEach(ids, (id) => find.execute(id))).toEqual([Option.none(), Option.none()])
        })
      ))
  }

  it("what is acquired in a transaction lives as long as the scope of its caller", () =>
    run(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        let released = false
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* sql.withTransaction(
              Effect.addFinalizer(() =>
                Effect.sync(() => {
                  released = true
                })
              )
            )
            expect(released).toBe(false)
          })
        )
        expect(released).toBe(true)
      })
    ))

  it("what a schema refuses is an error, and rolls back", () =>
    run(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const id = crypto.randomUUID()
        const change = SqlSchema.single({
          Request: Schema.String,
          Result: Schema.Struct({ orders: Schema.Negative }),
          execute: (id) => sql`insert into customers (id, orders) values (${id}, 1) returning orders`
        })
        expect(yield* Effect.flip(sql.withTransaction(change(id)))).toHaveProperty("_tag", "ParseError")
        expect(yield* sql`select * from customers where id = ${id}`).toEqual([])
      })
    ))
}

describe("an application's SQL on SQLite", () => {
  const filename = path.join(temporaryDirectory(), "own.db")
  tests(() => Layer.provideMerge(SqliteDatabase.layerSqlClient, EventStoreSqlite.layer({ filename })))
})

describePg("an application's SQL on PostgreSQL", () => {
  let url: string
  beforeAll(async () => {
    url = await freshDatabase()
  })
  // With one connection: what ran outside the transaction would wait for it in vain.
  tests(() =>
    Layer.provideMerge(
      PgDatabase.layerSqlClient,
      EventStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns: 1, acquireTimeout: "5 seconds" } })
    )
  )
})
