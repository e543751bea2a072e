/**
 * What a role must be allowed on PostgreSQL: no more than is needed, as docs/backends.md lists it, and told all at once
 * when a store opens.
 */
import * as fs from "node:fs"
import { assert, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Option, Redacted, Stream } from "effect"
import {
  CacheStore,
  CheckpointStore,
  CommandStore,
  DataStore,
  EventStore,
  SnapshotStore,
  SubjectKeysEncoded
} from "effect-stores"
import {
  CacheStorePg,
  CheckpointStorePg,
  CommandStorePg,
  DataStorePg,
  EventStorePg,
  type PgDatabase,
  SnapshotStorePg,
  SubjectKeysPg
} from "effect-stores/pg"
import { Stores } from "effect-stores/stores"
import { describePg, freshDatabase } from "../support/backends.js"
import { query } from "./support/query.js"
import { roleWith } from "./support/role.js"

const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
const bytes = new TextEncoder().encode("bytes")

interface Options extends PgDatabase.Options {
  readonly schema?: string
  readonly migrate?: boolean
  readonly readOnly?: boolean
}

/** A store as these tests use it: `write` makes what `read` finds. */
interface Store<S> {
  readonly name: string
  readonly layer: (options: Options) => Layer.Layer<S, { readonly _tag: string; readonly message: string }>
  readonly migrate: (
    options: PgDatabase.Options & { readonly schema?: string }
  ) => Effect.Effect<ReadonlyArray<string>, unknown>
  readonly migrationSql: (options: { readonly schema?: string }) => string
  readonly read: Effect.Effect<unknown, unknown, S>
  readonly write: Effect.Effect<unknown, unknown, S>
  readonly maintain: Effect.Effect<unknown, unknown, S>
}

/** Erases the store, which only its own members use. */
const storeOf = <S>(store: Store<S>): Store<unknown> => store as unknown as Store<unknown>

const stores: ReadonlyArray<Store<unknown>> = [
  storeOf<EventStore.EventStore>({
    ...EventStorePg,
    name: "EventStore",
    read: Effect.flatMap(EventStore.EventStore, (store) =>
      Effect.all([
        Stream.runCollect(store.read(stream)),
        Stream.runCollect(store.feed()),
        store.page(),
        store.info,
        Stream.runCollect(store.distinct("domain")),
        Stream.runCollect(store.subscribe({ limit: 1 }))
      ])
    ),
    write: Effect.flatMap(EventStore.EventStore, (store) =>
      Effect.all(
        [
          store.append(stream, [{ type: "Happened", data: 1 }], { expected: "any" }),
          store.append(
            stream,
            [1, 2].map((data) => ({ type: "Happened", data })),
            { expected: "any" }
          ),
          ...["b", "c", "d"].map((aggregateId) =>
            store.append({ ...stream, aggregateId }, [{ type: "Happened", data: 1 }], { expected: "any" })
          )
        ],
        { concurrency: "unbounded" }
      )
    ),
    maintain: Effect.flatMap(EventStore.EventStore, ({ feed, maintenance }) =>
      Effect.gen(function* () {
        const [first] = yield* Stream.runCollect(feed({ limit: 1 }))
        yield* maintenance.update(first?.id ?? "", { data: 2 })
        yield* maintenance.deleteStream(stream)
        yield* maintenance.reset
      })
    )
  }),
  storeOf<CommandStore.CommandStore>({
    ...CommandStorePg,
    name: "CommandStore",
    read: Effect.flatMap(CommandStore.CommandStore, (store) =>
      Effect.all([Stream.runCollect(store.list()), store.count(), store.info])
    ),
    write: Effect.flatMap(CommandStore.CommandStore, (store) =>
      store.create({ id: crypto.randomUUID(), tenantId: "t", domain: "d", type: "Do", data: 1 })
    ),
    maintain: Effect.flatMap(CommandStore.CommandStore, (store) =>
      Effect.gen(function* () {
        const [first] = yield* Stream.runCollect(store.list())
        yield* store.delete(first?.id ?? "")
        yield* store.reset
      })
    )
  }),
  storeOf<CheckpointStore.CheckpointStore>({
    ...CheckpointStorePg,
    name: "CheckpointStore",
    read: Effect.flatMap(CheckpointStore.CheckpointStore, (store) =>
      Effect.all([Stream.runCollect(store.list()), Stream.runCollect(store.deadLetters({ name: "f" })), store.info])
    ),
    write: Effect.flatMap(CheckpointStore.CheckpointStore, (store) =>
      Effect.gen(function* () {
        yield* store.open({ name: "f" }, { partitions: 2 })
        const lease = Option.getOrThrow(yield* store.claim({ name: "f" }, { owner: "o" }))
        const letter = { ...stream, eventId: crypto.randomUUID(), position: 1, type: "T", reason: "R" } as const
        const next = yield* store.commit(lease, 1, { deadLetters: [{ ...letter, scope: "event" }] })
        const last = yield* store.commit(next, 2, { settled: [1] })
        yield* store.renew(last)
        yield* store.release(last)
        yield* store.delete({ name: "f", generation: 1 })
      })
    ),
    maintain: Effect.void
  }),
  storeOf<SnapshotStore.SnapshotStore>({
    ...SnapshotStorePg,
    name: "SnapshotStore",
    read: Effect.flatMap(SnapshotStore.SnapshotStore, (store) => Effect.all([store.latest(stream), store.info])),
    write: Effect.flatMap(SnapshotStore.SnapshotStore, (store) =>
      Effect.all([
        store.save(stream, { version: 1, lastEventMark: crypto.randomUUID(), schemaVersion: "1", state: 1 }),
        store.save(stream, { version: 2, lastEventMark: crypto.randomUUID(), schemaVersion: "1", state: 1 }),
        store.delete(stream)
      ])
    ),
    maintain: Effect.void
  }),
  storeOf<CacheStore.CacheStore>({
    ...CacheStorePg,
    name: "CacheStore",
    read: Effect.flatMap(CacheStore.CacheStore, (store) => Effect.all([store.get("t", "k"), store.info])),
    write: Effect.flatMap(CacheStore.CacheStore, (store) =>
      Effect.all([
        store.set("t", "k", 1, { tags: ["a"] }),
        store.getOrSet("t", "l", Effect.succeed(1)),
        store.invalidate("t", { tags: ["a"] }),
        store.expire("t", { keys: ["l"] }),
        store.delete("t", "k")
      ])
    ),
    maintain: Effect.void
  }),
  storeOf<DataStore.DataStore>({
    ...DataStorePg,
    name: "DataStore",
    read: Effect.flatMap(DataStore.DataStore, (store) => Effect.all([store.buckets.list, store.info])),
    write: Effect.flatMap(DataStore.DataStore, (store) =>
      Effect.gen(function* () {
        yield* store.buckets.create("bucket")
        yield* store.put({ bucket: "bucket", name: "o" }, bytes)
        yield* store.put({ bucket: "bucket", name: "o" }, Stream.make(new Uint8Array(600_000), bytes))
        yield* store.copy({ bucket: "bucket", name: "o" }, { bucket: "bucket", name: "p" })
        yield* store.delete({ bucket: "bucket", name: "o" })
        yield* store.delete({ bucket: "bucket", name: "p" })
        yield* store.buckets.delete("bucket")
      })
    ),
    maintain: Effect.void
  }),
  storeOf<SubjectKeysEncoded.SubjectKeys>({
    ...SubjectKeysPg,
    name: "SubjectKeys",
    read: Effect.flatMap(SubjectKeysEncoded.SubjectKeys, (store) => Effect.all([store.count, store.note("n", null)])),
    write: Effect.flatMap(SubjectKeysEncoded.SubjectKeys, (store) =>
      Effect.all([
        store.note("n", "v"),
        store.create({ ref: "r", keyId: "k", wrapped: "w", wrappedBy: "b", createdAt: 0, shreddedAt: null }),
        store.shred({ ref: "r", keyId: null, shreddedAt: 1 })
      ])
    ),
    maintain: Effect.void
  })
]

const optionsOf = (url: string): PgDatabase.Options => ({ url: Redacted.make(url), pool: { maxOpenConns: 2 } })

const section =
  fs
    .readFileSync(new URL("../../docs/backends.md", import.meta.url), "utf8")
    .split("\n## Privileges on PostgreSQL\n")[1]
    ?.split("\n## ")[0] ?? ""

/** The rows of the table of grants: `{ EventStore: [reader, writer, maintenance] }`, each a list of `… on …`. */
const documented = new Map(
  section.split("\n").flatMap((line) => {
    const [, name = "", ...cells] = line.split("|").map((cell) => cell.trim())
    return line.startsWith("|") && cells.length === 4
      ? [[name, cells.slice(0, 3).map((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, grant]) => grant))] as const]
      : []
  })
)

/** The statements of the example for the roles `app` and `reporting`. */
const printed = /```sql\n([\s\S]*?)```/.exec(section)?.[1] ?? ""

const grantsOf = (name: string, columns: number): ReadonlyArray<string> =>
  ["every store", name]
    .flatMap((row) => documented.get(row)?.slice(0, columns).flat() ?? [])
    .map((grant) => `grant ${grant} to role`)

describePg("privileges on PostgreSQL", () => {
  it.live("a role that may create in a schema, and not in the database, migrates all stores there", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      yield* query(url, "create schema app; create schema printed")
      const role = yield* roleWith(
        url,
        "grant usage, create on schema app to role",
        "grant usage, create on schema printed to role"
      )
      for (const store of stores) {
        yield* Effect.provide(store.write, store.layer({ ...optionsOf(role.url), schema: "app" }))
        assert.deepStrictEqual(yield* store.migrate({ ...optionsOf(role.url), schema: "app" }), [])
        yield* query(role.url, store.migrationSql({ schema: "printed" }))
        yield* Effect.provide(store.write, store.layer({ ...optionsOf(role.url), schema: "printed", migrate: false }))
      }
    }).pipe(Effect.scoped)
  )

  it.live("where nothing is to do, migrating needs to read and nothing else", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      for (const store of stores) yield* store.migrate(optionsOf(url))
      const role = yield* roleWith(url, "grant select on es_migrations to role")
      for (const store of stores) assert.deepStrictEqual(yield* store.migrate(optionsOf(role.url)), [])
    }).pipe(Effect.scoped)
  )

  it.live("a role that may not create is told what migrating needs", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      yield* query(url, "create schema app")
      const role = yield* roleWith(url, "grant usage on schema app to role")
      for (const schema of ["app", "absent"]) {
        for (const store of stores) {
          const layer = store.layer({ ...optionsOf(role.url), schema })
          const refused = yield* Effect.flip(Effect.scoped(Layer.build(layer)))
          assert.strictEqual(refused._tag, "StoreError")
          assert.match(refused.message, /permission denied .* owns the schema .* usage and create/)
        }
      }
    }).pipe(Effect.scoped)
  )

  it.live("a reader's grants are enough for a store that Config has chosen, too", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      yield* EventStorePg.migrate(optionsOf(url))
      const reader = yield* roleWith(url, ...grantsOf("EventStore", 1))
      const variables = { EVENT_STORE: "pg", EVENT_STORE_READ_ONLY: "true", PG_URL: reader.url }
      const provider = ConfigProvider.fromMap(new Map(Object.entries(variables)), { pathDelim: "_" })
      const count = Effect.flatMap(EventStore.EventStore, (store) => store.count())
      const chosen = Layer.provide(Stores.layer(), Layer.setConfigProvider(provider))
      assert.strictEqual(yield* Effect.provide(count, chosen), 0)
    }).pipe(Effect.scoped)
  )

  for (const store of stores) {
    it.live(`${store.name}: the grants that are documented are enough`, () =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(freshDatabase)
        yield* store.migrate(optionsOf(url))
        assert.isDefined(documented.get(store.name))
        const [reader, writer, operator] = yield* Effect.all([
          roleWith(url, ...grantsOf(store.name, 1)),
          roleWith(url, ...grantsOf(store.name, 2)),
          roleWith(url, ...grantsOf(store.name, 3))
        ])
        yield* Effect.provide(store.write, store.layer(optionsOf(writer.url)))
        // The keys of subjects are never opened to be read only.
        const readOnly = store.name === "SubjectKeys" ? {} : { readOnly: true }
        const read = store.name === "SubjectKeys" ? writer : reader
        yield* Effect.provide(store.read, store.layer({ ...optionsOf(read.url), ...readOnly }))
        yield* Effect.provide(store.maintain, store.layer(optionsOf(operator.url)))
      }).pipe(Effect.scoped)
    )

    it.live(`${store.name}: what a role lacks is found when the layer opens, and the error grants all of it`, () =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(freshDatabase)
        yield* query(url, "create schema app")
        yield* store.migrate({ ...optionsOf(url), schema: "app" })
        yield* query(url, "revoke execute on all functions in schema app from public")
        const readOnly = store.name === "SubjectKeys" ? [{}] : [{ readOnly: true }, {}]
        const role = yield* roleWith(url)
        for (const options of readOnly) {
          const opened = Layer.build(store.layer({ ...optionsOf(role.url), schema: "app", ...options }))
          const refused = yield* Effect.flip(Effect.scoped(opened))
          assert.strictEqual(refused._tag, "StoreError")
          assert.include(refused.message, role.name)
          const grants = refused.message.match(/grant [^;]+;/g) ?? []
          assert.isNotEmpty(grants)
          for (const grant of grants) yield* query(url, grant)
          yield* Effect.scoped(opened)
        }
        yield* Effect.provide(store.write, store.layer({ ...optionsOf(role.url), schema: "app" }))
      }).pipe(Effect.scoped)
    )
  }

  it.live("the grants of the example are enough for its two roles", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const ofApp = stores.filter(({ name }) => ["EventStore", "CommandStore", "SnapshotStore"].includes(name))
      const events = ofApp[0] ?? assert.fail("no EventStore")
      for (const store of ofApp) yield* store.migrate(optionsOf(url))
      const [app, reporting] = yield* Effect.all([roleWith(url), roleWith(url)])
      yield* query(url, printed.replaceAll(/\bapp\b/g, app.name).replaceAll(/\breporting\b/g, reporting.name))
      for (const store of ofApp) yield* Effect.provide(store.write, store.layer(optionsOf(app.url)))
      for (const store of ofApp) yield* Effect.provide(store.read, store.layer(optionsOf(app.url)))
      yield* Effect.provide(events.read, events.layer({ ...optionsOf(reporting.url), readOnly: true }))
      const refused = yield* Effect.flip(Effect.scoped(Layer.build(events.layer(optionsOf(reporting.url)))))
      assert.strictEqual(refused._tag, "StoreError")
    }).pipe(Effect.scoped)
  )

  it.live("a sequence that a reader may no longer see is an error, and not an empty feed", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      yield* EventStorePg.migrate(optionsOf(url))
      const role = yield* roleWith(url, ...grantsOf("EventStore", 1))
      const store = yield* Effect.provide(
        EventStore.EventStore,
        yield* Layer.build(EventStorePg.layer({ ...optionsOf(role.url), readOnly: true }))
      )
      yield* query(url, `revoke all on sequence es_positions from ${role.name}`)
      for (const read of [
        store.head,
        Stream.runCollect(store.feed()),
        store.page(),
        Stream.runCollect(store.subscribe())
      ]) {
        const refused = yield* Effect.flip<unknown, { readonly _tag: string }, never>(read)
        assert.strictEqual(refused._tag, "StoreError")
        assert.include(String(refused), "permission denied for sequence es_positions")
      }
      assert.isTrue(Option.isNone(yield* store.get(crypto.randomUUID())))
    }).pipe(Effect.scoped)
  )
})
