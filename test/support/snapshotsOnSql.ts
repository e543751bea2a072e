/**
 * What a SnapshotStore on a database promises beyond its contract, as tests for both of them: transactions of the
 * caller's, saves in the background beside them, rows that somebody has changed, stores beside each other.
 */
import { Chunk, Deferred, Effect, Exit, Fiber, Layer, Logger, LogLevel, Option, Scope, Stream } from "effect"
import { EventStore, SnapshotStore } from "effect-stores"
import { describe, expect, it } from "vitest"
import { spawnWorker } from "./child.js"
import { eventually } from "./eventually.js"

/** What `PgDatabase` and `SqliteDatabase` have in common. */
export interface Database {
  readonly transaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, unknown, R>
  readonly sql: { readonly unsafe: (text: string) => Effect.Effect<ReadonlyArray<unknown>, unknown> }
}

/** One database for the caller alone. */
export interface Place<D> {
  readonly database: (pool?: {
    readonly maxOpenConns?: number
    readonly acquireTimeout?: number
  }) => Layer.Layer<D, unknown>
  /** What tells a worker of it. */
  readonly env: Readonly<Record<string, string>>
}

export interface Backend<I, D extends Database> {
  readonly place: () => Promise<Place<I>>
  readonly tag: Effect.Effect<D, never, I>
  readonly snapshots: (options?: { readonly prefix?: string }) => Layer.Layer<SnapshotStore.SnapshotStore, unknown, I>
  readonly events: (options?: { readonly prefix?: string }) => Layer.Layer<EventStore.EventStore, unknown, I>
  /** Operations in line for the connection that writes. */
  readonly waiting: (database: D) => Effect.Effect<number>
  /** The names of all tables. */
  readonly tables: string
}

export const streamOf = (aggregateId: string): EventStore.StreamId => ({ tenantId: "t", domain: "d", aggregateId })

export const snapshotOf = (version: number): SnapshotStore.NewSnapshot => ({
  version,
  lastEventMark: crypto.randomUUID(),
  schemaVersion: "1",
  state: { version, text: "some state" }
})

export const versionOf = (store: SnapshotStore.SnapshotStoreShape, stream: EventStore.StreamId) =>
  Effect.map(store.latest(stream), (found) => Option.getOrUndefined(found)?.version)

const event = { type: "Happened", data: 1 }

/** The warnings are expected, and say nothing in the report of a run. */
const quietly = Logger.withMinimumLogLevel(LogLevel.None)

/** What may become of a row, by its place in SQL. */
const changes: Readonly<Record<string, string>> = {
  "a state that was cut short": "state = substr(state, 1, length(state) - 1)",
  "a state with another character": "state = replace(state, 'some', 'same')",
  "an empty state": "state = ''",
  "a greater version": "version = version + 1",
  "a version that is no safe integer": "version = 9223372036854775806",
  "a negative version": "version = -version",
  "another last event": "last_event_mark = '00000000-0000-4000-8000-000000000000'",
  "another schema version": "schema_version = '2'",
  "a key that never sealed it": "key_id = 'k'",
  "another time": "created_ms = created_ms + 1",
  "another checksum": "checksum = substr(checksum, 2) || substr(checksum, 1, 1)"
}

export const snapshotsOnSql = <I, D extends Database>(backend: Backend<I, D>): void => {
  interface Stores {
    readonly store: SnapshotStore.SnapshotStoreShape
    readonly events: EventStore.EventStoreShape
    readonly database: D
  }

  /** Runs an effect with both stores on a database of its own. */
  const withStores = async <A, E>(
    body: (stores: Stores, place: Place<I>) => Effect.Effect<A, E, I | Scope.Scope>,
    pool: { readonly maxOpenConns?: number; readonly acquireTimeout?: number } = {}
  ): Promise<A> => {
    const place = await backend.place()
    return Effect.all([SnapshotStore.SnapshotStore, EventStore.EventStore, backend.tag]).pipe(
      Effect.flatMap(([store, events, database]) => body({ store, events, database }, place)),
      Effect.scoped,
      Effect.provide(Layer.provideMerge(Layer.merge(backend.snapshots(), backend.events()), place.database(pool))),
      quietly,
      Effect.runPromise
    )
  }

  const tables = (database: D) =>
    Effect.map(database.sql.unsafe(backend.tables), (rows) => rows.map((row) => (row as { name: string }).name).sort())

  describe("inside a transaction of the caller's", () => {
    it("a save commits with it, together with what the EventStore appends", () =>
      withStores(({ database, events, store }) =>
        Effect.gen(function* () {
          const both = Effect.zip(
            events.append(streamOf("a"), [event], { expected: "noStream" }),
            store.save(streamOf("a"), snapshotOf(1))
          )
          yield* database.transaction(both)
          expect(yield* versionOf(store, streamOf("a"))).toBe(1)
          expect(yield* events.version(streamOf("a"))).toBe(1)
        })
      ))

    it("a save, and a delete, are seen inside and undone with it", () =>
      withStores(({ database, store }) =>
        Effect.gen(function* () {
          yield* store.save(streamOf("a"), snapshotOf(3))
          const failing = Effect.gen(function* () {
            yield* store.save(streamOf("a"), snapshotOf(7))
            yield* store.save(streamOf("b"), snapshotOf(1))
            expect(yield* versionOf(store, streamOf("a"))).toBe(7)
            expect(yield* store.delete(streamOf("a"))).toBe(true)
            expect(yield* versionOf(store, streamOf("a"))).toBe(undefined)
            return yield* Effect.fail("undo")
          })
          expect(yield* Effect.flip(database.transaction(failing))).toBe("undo")
          expect(yield* versionOf(store, streamOf("a"))).toBe(3)
          expect(yield* versionOf(store, streamOf("b"))).toBe(undefined)
        })
      ))

    it("a save offered to the background is no part of it, and is kept when it is rolled back", () =>
      withStores(({ database, events, store }) =>
        Effect.gen(function* () {
          const failing = events
            .append(streamOf("a"), [event], { expected: "noStream" })
            .pipe(
              Effect.zipRight(store.saveInBackground(streamOf("b"), Effect.succeed(snapshotOf(5)))),
              Effect.zipRight(Effect.fail("undo"))
            )
          expect(yield* Effect.flip(database.transaction(failing))).toBe("undo")
          yield* store.flush(streamOf("b"))
          expect(yield* versionOf(store, streamOf("b"))).toBe(5)
          expect(yield* events.version(streamOf("a"))).toBe(0)
        })
      ))
  })

  describe("with only one connection", () => {
    const pool = { maxOpenConns: 1 }

    it("a save offered inside a transaction waits for its end, and closing waits for both", async () => {
      const place = await backend.place()
      const layer = Layer.provideMerge(backend.snapshots(), place.database(pool))
      await Effect.gen(function* () {
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(layer, scope)
        const [store, database] = yield* Effect.provide(Effect.all([SnapshotStore.SnapshotStore, backend.tag]), context)
        const go = yield* Deferred.make<void>()
        const transaction = yield* store
          .save(streamOf("a"), snapshotOf(1))
          .pipe(
            Effect.zipRight(store.saveInBackground(streamOf("a"), Effect.succeed(snapshotOf(2)))),
            Effect.zipRight(Deferred.await(go)),
            database.transaction,
            Effect.fork
          )
        yield* eventually(Effect.map(backend.waiting(database), (waiting) => waiting === 1))
        const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
        yield* Effect.sleep("20 millis")
        expect(closing.unsafePoll()).toBe(null)
        yield* Deferred.succeed(go, undefined)
        expect((yield* Fiber.await(transaction))._tag).toBe("Success")
        yield* Fiber.await(closing)
        const kept = Effect.flatMap(SnapshotStore.SnapshotStore, (store) => versionOf(store, streamOf("a")))
        expect(yield* Effect.provide(kept, layer)).toBe(2)
      }).pipe(Effect.runPromise)
    })

    it("neither a flush inside the transaction nor closing beside it waits for longer than acquireTimeout", () =>
      withStores(
        ({ database }) =>
          Effect.gen(function* () {
            const scope = yield* Scope.make()
            const context = yield* Layer.buildWithScope(backend.snapshots(), scope)
            const store = yield* Effect.provide(SnapshotStore.SnapshotStore, context)
            const flushed = yield* Deferred.make<void>()
            const endless = yield* store
              .saveInBackground(streamOf("a"), Effect.succeed(snapshotOf(1)))
              .pipe(
                Effect.zipRight(store.flush(streamOf("a"))),
                Effect.zipRight(store.saveInBackground(streamOf("b"), Effect.succeed(snapshotOf(1)))),
                Effect.zipRight(Deferred.succeed(flushed, undefined)),
                Effect.zipRight(Effect.never),
                database.transaction,
                Effect.fork
              )
            yield* Deferred.await(flushed)
            yield* Scope.close(scope, Exit.void)
            expect(endless.unsafePoll()).toBe(null)
            yield* Fiber.interrupt(endless)
          }),
        { maxOpenConns: 1, acquireTimeout: 2_000 }
      ))
  })

  describe("a row that somebody has changed", () => {
    for (const [what, change] of Object.entries(changes)) {
      it(`is SnapshotCorrupt: ${what}`, () =>
        withStores(({ database, store }) =>
          Effect.gen(function* () {
            for (const name of ["a", "b"]) yield* store.save(streamOf(name), snapshotOf(9))
            yield* database.sql.unsafe(`UPDATE es_snapshots SET ${change}`)
            const error = yield* Effect.flip(store.latest(streamOf("a")))
            expect(error).toMatchObject({ _tag: "SnapshotCorrupt", stream: { aggregateId: "a" } })
            // Both ways to be rid of it.
            expect(yield* store.delete(streamOf("a"))).toBe(true)
            expect(yield* versionOf(store, streamOf("a"))).toBe(undefined)
            yield* store.saveInBackground(streamOf("b"), Effect.succeed(snapshotOf(2)), { replace: true })
            yield* store.flush(streamOf("b"))
            expect(yield* versionOf(store, streamOf("b"))).toBe(2)
          })
        ))
    }

    it("is SnapshotCorrupt when it was moved from another stream", () =>
      withStores(({ database, store }) =>
        Effect.gen(function* () {
          for (const name of ["a", "b"]) yield* store.save(streamOf(name), snapshotOf(9))
          for (const [from, to] of [
            ["a", "c"],
            ["b", "a"],
            ["c", "b"]
          ]) {
            yield* database.sql.unsafe(`UPDATE es_snapshots SET aggregate_id = '${to}' WHERE aggregate_id = '${from}'`)
          }
          for (const name of ["a", "b"]) {
            expect(yield* Effect.flip(store.latest(streamOf(name)))).toMatchObject({ _tag: "SnapshotCorrupt" })
          }
        })
      ))
  })

  describe("beside each other", () => {
    it("a SnapshotStore alone makes only its own table, beside those that all stores share", async () => {
      const place = await backend.place()
      const layer = Layer.provideMerge(backend.snapshots(), place.database())
      expect(await Effect.runPromise(Effect.provide(Effect.flatMap(backend.tag, tables), layer))).toEqual([
        "es_migrations",
        "es_notes",
        "es_snapshots"
      ])
    })

    it("both stores under one prefix keep what is theirs, also when one is reset", () =>
      withStores(({ database, events, store }) =>
        Effect.gen(function* () {
          expect(yield* tables(database)).toEqual([
            "es_events",
            "es_migrations",
            "es_notes",
            "es_revisions",
            "es_snapshots"
          ])
          yield* events.append(streamOf("a"), [event], { expected: "noStream" })
          yield* store.save(streamOf("a"), snapshotOf(1))
          yield* events.maintenance.reset
          expect(yield* versionOf(store, streamOf("a"))).toBe(1)
          yield* events.append(streamOf("a"), [event], { expected: "noStream" })
          yield* store.reset
          expect(yield* versionOf(store, streamOf("a"))).toBe(undefined)
          expect(Chunk.size(yield* Stream.runCollect(events.read(streamOf("a"))))).toBe(1)
        })
      ))

    it("SnapshotStores under two prefixes keep what is theirs", () =>
      withStores(({ store }) =>
        Effect.gen(function* () {
          const other = yield* Effect.provide(
            SnapshotStore.SnapshotStore,
            yield* Layer.build(backend.snapshots({ prefix: "x_" }))
          )
          yield* store.save(streamOf("a"), snapshotOf(9))
          yield* other.save(streamOf("a"), snapshotOf(2))
          expect(yield* versionOf(other, streamOf("a"))).toBe(2)
          yield* other.reset
          expect(yield* versionOf(store, streamOf("a"))).toBe(9)
        })
      ))

    it("a newer version of one store is refused by that store only", () =>
      withStores(({ database }) =>
        Effect.gen(function* () {
          const opening = <A, E>(layer: Layer.Layer<A, E, I>) => Effect.scoped(Layer.build(layer))
          yield* database.sql.unsafe(
            "INSERT INTO es_migrations (store, id, name, applied_at) VALUES ('SnapshotStore', 99, 'later', '2026-01-01')"
          )
          expect(String(yield* Effect.flip(opening(backend.snapshots())))).toContain("99 (later)")
          yield* opening(backend.events())
        })
      ))
  })

  it("of 8 processes that start at once on an empty database and save 32 at a time, the greatest version stays", async () => {
    const place = await backend.place()
    const worker = new URL("../workers/saver.ts", import.meta.url)
    const [processes, fibers, saves] = [8, 4, 8]
    const workers = Array.from({ length: processes }, (_, index) =>
      spawnWorker(worker, {
        env: {
          ...place.env,
          WORKER_PROCESSES: `${processes}`,
          WORKER_INDEX: `${index}`,
          WORKER_FIBERS: `${fibers}`,
          WORKER_SAVES: `${saves}`
        }
      })
    )
    const outputs = await Promise.all(
      workers.map(async ({ exited, lines }) => {
        const output: Array<string> = []
        for await (const line of lines) output.push(line)
        const { code, stderr } = await exited
        return { code, output, stderr }
      })
    )
    expect(outputs).toEqual(outputs.map(() => ({ code: 0, output: [], stderr: "" })))
    const layer = Layer.provideMerge(backend.snapshots(), place.database())
    await Effect.gen(function* () {
      const database = yield* backend.tag
      const found = yield* Effect.flatMap(SnapshotStore.SnapshotStore, (store) => store.latest(streamOf("contended")))
      const greatest = processes * fibers * saves
      expect(Option.getOrThrow(found)).toMatchObject({ version: greatest, state: { version: greatest } })
      // Of further ones each backend has its own.
      const first = yield* database.sql.unsafe("SELECT store, name FROM es_migrations WHERE id = 1 ORDER BY store")
      expect(first).toEqual([
        { store: "EventStore", name: "events" },
        { store: "SnapshotStore", name: "snapshots" }
      ])
    }).pipe(Effect.provide(layer), Effect.runPromise)
  })
}
