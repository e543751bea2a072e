/**
 * A sequence behind its table, as after a restore of the rows alone: found when a store opens, refused while it runs,
 * and no position is drawn meanwhile.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Stream } from "effect"
import { CommandStore, EventStore } from "effect-stores"
import { CommandStorePg, EventStorePg, PgDatabase } from "effect-stores/pg"
import { describePg, freshDatabase } from "../support/backends.js"
import { query } from "./support/query.js"

const streamOf = (aggregateId: string) => ({ tenantId: "t", domain: "d", aggregateId })
const event = { type: "Happened", data: 1 }
const command = () => ({ id: crypto.randomUUID(), tenantId: "t", domain: "d", type: "Do", data: 1 })

const optionsOf = (url: string) => ({ url: Redacted.make(url), pool: { maxOpenConns: 3 } })
const openEvents = (url: string, options: EventStorePg.StoreOptions = {}) =>
  Layer.build(EventStorePg.layer({ ...optionsOf(url), ...options }))
const openCommands = (url: string) => Layer.build(CommandStorePg.layer(optionsOf(url)))

const lastDrawn = (url: string, sequence: string) =>
  Effect.map(query(url, `select last_value::float8 as last from ${sequence}`), ({ rows }) => rows[0].last as number)

/** Runs what an error of the store says. */
const obey = (url: string, error: unknown) => {
  const [, cure] = /run (select setval\(.*\)), or/.exec(String(error)) ?? []
  assert.isDefined(cure, String(error))
  return query(url, cure as string)
}

/** A database with events in 20 streams. */
const withEvents = Effect.gen(function* () {
  const url = yield* Effect.promise(freshDatabase)
  const context = yield* openEvents(url)
  const store = yield* Effect.provide(EventStore.EventStore, context)
  for (let i = 1; i <= 20; i++) yield* store.append(streamOf(`${i}`), [event], { expected: "noStream" })
  return { url, store, database: yield* Effect.provide(PgDatabase.PgDatabase, context) }
})

describePg("a sequence behind its table, on PostgreSQL", () => {
  it.live("is found when events are opened, to write or to read, and the error says what to run", () =>
    Effect.gen(function* () {
      const { store, url } = yield* withEvents
      const expected = yield* Stream.runCollect(store.feed())
      yield* query(url, "select setval('es_positions', 10)")
      for (const options of [{}, { readOnly: true }, { migrate: false }]) {
        const refused = yield* Effect.flip(Effect.scoped(openEvents(url, options)))
        assert.strictEqual(refused._tag, "StoreError")
        assert.include(refused.message, "behind")
      }
      yield* obey(url, yield* Effect.flip(Effect.scoped(openEvents(url))))
      const again = yield* Effect.provide(EventStore.EventStore, yield* openEvents(url))
      assert.deepStrictEqual(yield* Stream.runCollect(again.feed()), expected)
      assert.strictEqual((yield* again.append(streamOf("new"), [event], { expected: "noStream" })).position, 21)
    }).pipe(Effect.scoped)
  )

  it.live("is found when rows came to a store that was never used", () =>
    Effect.gen(function* () {
      const { url } = yield* withEvents
      yield* EventStorePg.migrate({ ...optionsOf(url), prefix: "copy_" })
      yield* query(url, "insert into copy_events select * from es_events")
      const refused = yield* Effect.flip(Effect.scoped(openEvents(url, { prefix: "copy_" })))
      assert.strictEqual(refused._tag, "StoreError")
      yield* obey(url, refused)
      const copy = yield* Effect.provide(EventStore.EventStore, yield* openEvents(url, { prefix: "copy_" }))
      assert.strictEqual(yield* copy.head, 20)
    }).pipe(Effect.scoped)
  )

  it.live("refuses appends and reads of the feed while the store runs, also into a gap, and nothing creeps", () =>
    Effect.gen(function* () {
      const { database, store, url } = yield* withEvents
      // Positions that are free again: an append there would be passed by whoever has read further.
      for (const gone of ["11", "12", "13"]) yield* store.maintenance.deleteStream(streamOf(gone))
      yield* query(url, "select setval('es_positions', 10)")
      const append = (aggregateId: string, events = [event]) =>
        store.append(streamOf(aggregateId), events, { expected: "any" })
      const refused = [
        append("a"),
        append("a", [event, event]),
        store.appendAll(["a", "b"].map((id) => ({ stream: streamOf(id), events: [event], expected: "any" as const }))),
        database.transaction(append("a")),
        // Together, in one group.
        Effect.forEach(["a", "b", "c", "d", "e", "f"], (id) => Effect.flip(append(id)), {
          concurrency: "unbounded"
        }).pipe(Effect.flatMap(([first]) => Effect.fail(first as { readonly _tag: string }))),
        store.head,
        Stream.runCollect(store.feed()),
        store.page(),
        Stream.runCollect(store.subscribe())
      ] as ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>>
      for (const each of refused) {
        const error = yield* Effect.flip(each)
        assert.strictEqual(error._tag, "StoreError")
        assert.include(String(error), "setval")
      }
      assert.strictEqual(yield* lastDrawn(url, "es_positions"), 10)
      assert.strictEqual(yield* store.count(), 17)
      yield* obey(url, yield* Effect.flip(append("a")))
      assert.strictEqual((yield* append("a")).position, 21)
    }).pipe(Effect.scoped)
  )

  it.live("is not seen in one that other writers are moving on", () =>
    Effect.gen(function* () {
      const { database, store } = yield* withEvents
      yield* Effect.forEach(
        Array.from({ length: 300 }, (_, i) => i),
        (i): Effect.Effect<unknown, EventStore.AppendError> =>
          i % 3 === 0
            ? store.head
            : i % 3 === 1
              ? store.append(streamOf(`m${i}`), [event], { expected: "any" })
              : database.transaction(store.append(streamOf(`m${i}`), [event, event], { expected: "any" })),
        { concurrency: 30, discard: true }
      )
    }).pipe(Effect.scoped)
  )

  it.live("is found when commands are opened, and named while they are created", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const store = yield* Effect.provide(CommandStore.CommandStore, yield* openCommands(url))
      for (let i = 0; i < 20; i++) yield* store.create(command())
      const sequence = "es_commands_position_seq"
      yield* query(url, `select setval('${sequence}', 10)`)
      const refused = yield* Effect.flip(store.create(command()))
      assert.strictEqual(refused._tag, "StoreError")
      assert.include(String(refused), "setval")
      const opened = yield* Effect.flip(Effect.scoped(openCommands(url)))
      assert.strictEqual(opened._tag, "StoreError")
      yield* obey(url, opened)
      yield* Effect.scoped(openCommands(url))
      yield* store.create(command())
      assert.strictEqual(yield* store.count(), 21)
    }).pipe(Effect.scoped)
  )
})
