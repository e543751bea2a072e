/**
 * What reads inside a transaction of the caller's show of its own appends, as the contract says it, on each backend
 * that has transactions. What feeds show of them before the commit is not specified, and so not tested.
 */
import { Chunk, Context, Effect, Layer, Option, Redacted, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreMemory, MemoryDatabase } from "effect-stores/memory"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"
import { describePg, freshDatabase } from "./support/backends.js"

/** `transaction`, whatever the database. */
class Database extends Context.Tag("Database")<
  Database,
  { readonly transaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, unknown, R> }
>() {}

const stream = { tenantId: "acme", domain: "order", aggregateId: "1" }
const other = { ...stream, aggregateId: "2" }
const [before, own, elsewhere] = [1, 2, 3].map((n) => ({
  id: `00000000-0000-7000-8000-00000000000${n}`,
  type: `Type${n}`,
  data: n
})) as [EventStore.NewEvent, EventStore.NewEvent, EventStore.NewEvent]

const types = (events: Stream.Stream<EventStore.Event, unknown>) =>
  Effect.map(Stream.runCollect(events), (events) => Chunk.toArray(events).map(({ type }) => type))

/** What every read that is specified inside a transaction shows. */
const seen = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  const distinct = yield* Stream.runCollect(store.distinct("type"))
  return {
    read: yield* types(store.read(stream)),
    fold: yield* store.fold(stream, "", (text, { type }) => text + type),
    version: yield* store.version(stream),
    get: Option.isSome(yield* store.get(own.id as string)),
    count: yield* store.count({ tenantId: stream.tenantId }),
    distinct: Chunk.toArray(distinct)
  }
})

const one = { read: ["Type1"], fold: "Type1", version: 1, get: false, count: 1, distinct: ["Type1"] }
const two = { ...one, read: ["Type1", "Type2"], fold: "Type1Type2", version: 2, get: true, count: 2 }

const tests = (layer: () => Promise<Layer.Layer<EventStore.EventStore | Database, unknown>>) => {
  it("reads see them at once, and not after a rollback; feeds see them once they are committed", async () => {
    const program = Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { transaction } = yield* Database
      const feeds = Effect.all({
        feed: types(store.feed()),
        page: Effect.map(store.page(), ({ events }) => events.map(({ type }) => type)),
        // As far as everything is there: not a literal.
        upToHead: Effect.flatMap(store.head, (head) =>
          types(Stream.filter(store.feed(), ({ position }) => position <= head))
        )
      })
      const append = store.append(stream, [own], { expected: 1 })
      yield* store.append(stream, [before], { expected: "noStream" })

      yield* Effect.flip(
        transaction(
          Effect.gen(function* () {
            yield* append
            expect(yield* seen).toEqual({ ...two, distinct: ["Type1", "Type2"] })
            // Whatever a feed shows of them, what was committed before is there.
            expect((yield* feeds).feed).toContain("Type1")
            yield* Effect.fail("rolled back")
          })
        )
      )
      expect(yield* seen).toEqual(one)
      expect(yield* feeds).toEqual({ feed: ["Type1"], page: ["Type1"], upToHead: ["Type1"] })

      yield* transaction(Effect.zipRight(append, store.append(other, [elsewhere], { expected: "noStream" })))
      const all = ["Type1", "Type2", "Type3"]
      expect(yield* seen).toEqual({ ...two, count: 3, distinct: all })
      expect(yield* feeds).toEqual({ feed: all, page: all, upToHead: all })
    })
    await Effect.runPromise(Effect.provide(program, await layer()))
  })

  it("a subscription in it waits for no other connection, where there is none", async () => {
    const program = Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { transaction } = yield* Database
      yield* store.append(stream, [before], { expected: "noStream" })
      const read = types(store.subscribe({ limit: 1 }))
      expect(yield* transaction(read)).toEqual(["Type1"])
      expect(yield* transaction(transaction(read))).toEqual(["Type1"])
    })
    await Effect.runPromise(Effect.provide(program, await layer()))
  })
}

describe("a transaction's own appends in memory", () =>
  tests(async () =>
    Layer.provideMerge(
      Layer.merge(Layer.effect(Database, MemoryDatabase.MemoryDatabase), EventStoreMemory.layerFromDatabase()),
      MemoryDatabase.layer
    )
  ))

describe("a transaction's own appends on Sqlite", () =>
  tests(async () =>
    Layer.provideMerge(
      Layer.effect(
        Database,
        Effect.map(SqliteDatabase.SqliteDatabase, ({ transaction }) => ({ transaction }))
      ),
      EventStoreSqlite.layer({ filename: ":memory:" })
    )
  ))

describePg("a transaction's own appends on PostgreSQL", () =>
  tests(async () =>
    Layer.provideMerge(
      Layer.effect(
        Database,
        Effect.map(PgDatabase.PgDatabase, ({ transaction }) => ({ transaction }))
      ),
      EventStorePg.layer({ url: Redacted.make(await freshDatabase()), pool: { maxOpenConns: 1, maxIdleConns: 1 } })
    )
  )
)
