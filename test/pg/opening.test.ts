/**
 * What is found of the server when a database opens: a pooler that must be named, and a server that only reads.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Logger, Redacted, Stream } from "effect"
import { CacheStore, CommandStore, DataStore, Errors, EventStore, SnapshotStore } from "effect-stores"
import { CacheStorePg, CommandStorePg, DataStorePg, EventStorePg, PgDatabase, SnapshotStorePg } from "effect-stores/pg"
import { describeOwnPg, describePg, describeWith, freshDatabase } from "../support/backends.js"
import { withClient } from "../support/databases.js"
import { startPgBouncer } from "../support/pgbouncer.js"
import { startPostgres } from "../support/postgres.js"
import { findPostgresTool } from "../support/tools.js"
import { query } from "./support/query.js"
import { startStandby } from "./support/standby.js"

const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
const event = { type: "Happened", data: 1 }

/** All five stores on one database, and the warnings of their opening. */
const openAll = (url: string, options: { readonly readOnly?: boolean } = {}) => {
  const warnings: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel.label === "WARN") warnings.push([message].flat().join(" "))
  })
  const stores = Layer.mergeAll(
    EventStorePg.layerFromDatabase(options),
    CommandStorePg.layerFromDatabase(options),
    SnapshotStorePg.layerFromDatabase(options),
    CacheStorePg.layerFromDatabase(options),
    DataStorePg.layerFromDatabase(options)
  ).pipe(
    Layer.provideMerge(PgDatabase.layer({ url: Redacted.make(url), pool: { maxOpenConns: 3 } })),
    Layer.provide(Logger.replace(Logger.defaultLogger, logger))
  )
  return Effect.map(Layer.build(stores), (context) => ({ context, warnings }))
}

const reads = Effect.gen(function* () {
  const events = yield* EventStore.EventStore
  assert.lengthOf(yield* Stream.runCollect(events.read(stream)), 1)
  assert.strictEqual(yield* (yield* CommandStore.CommandStore).count(), 0)
  assert.strictEqual((yield* (yield* SnapshotStore.SnapshotStore).latest(stream))._tag, "None")
  assert.strictEqual((yield* (yield* CacheStore.CacheStore).get("t", "k"))._tag, "None")
  assert.lengthOf(yield* (yield* DataStore.DataStore).buckets.list, 0)
})

const firstWrite = Effect.flatMap(EventStore.EventStore, (store) => store.append(stream, [event], { expected: "any" }))

const writes = Effect.gen(function* () {
  const events = yield* EventStore.EventStore
  const commands = yield* CommandStore.CommandStore
  const snapshots = yield* SnapshotStore.SnapshotStore
  const cache = yield* CacheStore.CacheStore
  const data = yield* DataStore.DataStore
  const snapshot = { version: 1, lastEventMark: crypto.randomUUID(), schemaVersion: "1", state: 1 }
  return [
    events.append(stream, [event], { expected: "any" }),
    commands.create({ id: crypto.randomUUID(), tenantId: "t", domain: "d", type: "Do", data: 1 }),
    snapshots.save(stream, snapshot),
    cache.set("t", "k", 1),
    data.buckets.create("bucket")
  ] as ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>>
})

/** Every store reads, and its writes fail as what may pass. */
const onlyReads = Effect.gen(function* () {
  yield* reads
  for (const write of yield* writes) {
    const error = yield* Effect.flip(write)
    assert.strictEqual(error._tag, "StoreUnavailable")
    assert.isTrue(Errors.isRetryable(error))
    assert.include(String(error), "read-only transaction")
  }
})

describePg("opening a database", () => {
  describeWith("pgbouncer", "behind a pooler", () => {
    const pooled = (mode: string, sessions = 3) =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(freshDatabase)
        const pooler = yield* Effect.acquireRelease(
          Effect.promise(() => startPgBouncer(url, { pool_mode: mode, default_pool_size: sessions })),
          (pooler) => Effect.promise(pooler.stop)
        )
        return pooler.through(url)
      })

    it.live("in transaction mode fails without the option, names it, and leaves no setting behind", () =>
      Effect.gen(function* () {
        const url = yield* pooled("transaction")
        const options = { url: Redacted.make(url) }
        for (const opening of [
          Effect.asVoid(Layer.build(EventStorePg.layer(options))),
          Effect.asVoid(Layer.build(CommandStorePg.layer(options))),
          Effect.asVoid(Layer.build(CacheStorePg.layer(options)))
        ]) {
          const refused = yield* Effect.flip(Effect.scoped(opening))
          assert.strictEqual(refused._tag, "StoreError")
          assert.include(String(refused), 'pooler: "transaction"')
          assert.include(String(refused), "PG_POOLER")
        }
        const left = yield* Effect.promise(() =>
          withClient(url, (client) =>
            client.query(
              `select name, setting from pg_settings where source = 'session'
                 and name not in ('application_name', 'client_encoding')`
            )
          )
        )
        assert.deepStrictEqual(left.rows, [])
        yield* Effect.scoped(Layer.build(EventStorePg.layer({ url: Redacted.make(url), pooler: "transaction" })))
      }).pipe(Effect.scoped)
    )

    it.live("in session mode opens also where it has no second session", () =>
      Effect.gen(function* () {
        const url = yield* pooled("session", 1)
        yield* Layer.build(EventStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns: 1 } }))
      }).pipe(Effect.scoped)
    )

    it.live("in session mode needs no option", () =>
      Effect.gen(function* () {
        const url = yield* pooled("session")
        const { context, warnings } = yield* openAll(url)
        assert.deepStrictEqual(warnings, [])
        for (const write of yield* Effect.provide(writes, context)) yield* write
      }).pipe(Effect.scoped)
    )
  })

  it.live("that only reads says so, and all five stores read", () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(freshDatabase)
      const first = yield* openAll(url)
      assert.deepStrictEqual(first.warnings, [])
      yield* Effect.provide(firstWrite, first.context)
      yield* query(url, `alter database "${new URL(url).pathname.slice(1)}" set default_transaction_read_only = on`)
      for (const options of [{}, { readOnly: true }]) {
        const { context, warnings } = yield* openAll(url, options)
        assert.lengthOf(warnings, 1)
        assert.include(warnings[0], "default_transaction_read_only")
        yield* Effect.provide(options.readOnly === true ? reads : onlyReads, context)
      }
    }).pipe(Effect.scoped)
  )
})

describeOwnPg("opening a database", () =>
  describeWith("postgresTools", "of a standby", () => {
    it.live("says so, and all five stores read what is not the feed", () =>
      Effect.gen(function* () {
        const primary = yield* Effect.acquireRelease(
          Effect.promise(() => startPostgres()),
          (server) => Effect.promise(server.stop)
        )
        const { context } = yield* openAll(primary.url)
        yield* Effect.provide(firstWrite, context)
        const standby = yield* Effect.acquireRelease(
          Effect.promise(() =>
            startStandby({
              pgBasebackup: findPostgresTool("pg_basebackup") ?? "pg_basebackup",
              primaryUrl: primary.url
            })
          ),
          (server) => Effect.promise(server.stop)
        )
        for (const options of [{}, { readOnly: true }]) {
          const opened = yield* openAll(standby.urlOf(primary.url), options)
          assert.lengthOf(opened.warnings, 1)
          assert.include(opened.warnings[0], "standby")
          yield* Effect.provide(options.readOnly === true ? reads : onlyReads, opened.context)
        }
      }).pipe(Effect.scoped)
    )
  })
)
