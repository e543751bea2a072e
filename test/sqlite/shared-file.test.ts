/**
 * A process opens a SQLite file once, however many layers name it: they share its connections and its transactions, and
 * the last to close closes it.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Option, Schema, Scope } from "effect"
import { CommandStore, EventStore, SnapshotStore } from "effect-stores"
import { CommandStoreSqlite, EventStoreSqlite, SnapshotStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, expect, it } from "vitest"
import { temporaryDirectory } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import {
  childCommand,
  freshFile,
  openConnections,
  placed,
  readAll,
  startChild,
  streamOf,
  withStore
} from "./support.js"

const appendTo = (store: EventStore.EventStoreShape, aggregateId: string) =>
  store.append(streamOf(aggregateId), [placed()], { expected: "any" })

const command = (): CommandStore.NewCommand => ({
  id: crypto.randomUUID(),
  tenantId: "tenant",
  domain: "order",
  type: "Place",
  data: null
})

/** The database and the stores of a layer of its own, and what closes it. */
const opened = <A, E>(layer: Layer.Layer<A, E>) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(layer, scope)
    return { context, close: Scope.close(scope, Exit.void) }
  })

const openedEvents = (options: EventStoreSqlite.Options) =>
  Effect.map(opened(EventStoreSqlite.layer(options)), ({ close, context }) => ({
    close,
    store: Context.get(context, EventStore.EventStore),
    database: Context.get(context, SqliteDatabase.SqliteDatabase)
  }))

const run = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>): Promise<A> => Effect.runPromise(Effect.scoped(effect))

describe("the layers of two stores on one file", () => {
  it.each(["merged", "one fresh"])("commit and roll back together (%s)", async (how) => {
    const filename = freshFile()
    const events = EventStoreSqlite.layer({ filename })
    const commands = CommandStoreSqlite.layer({ filename })
    const program = Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { execute, get } = yield* CommandStore.CommandStore
      const [done, undone] = [command(), command()]
      const options = { success: Schema.Number, transaction: true } as const
      const append = Effect.map(appendTo(store, "1"), ({ version }) => version)
      expect(yield* execute(done, append, options)).toBe(1)
      expect(yield* execute(done, append, options)).toBe(1)
      yield* Effect.exit(execute(undone, Effect.zipRight(append, Effect.die("after the append")), options))
      expect(Option.map(yield* get(undone.id), ({ status }) => status)).toEqual(Option.some("received"))
      expect(yield* readAll(store, "1")).toHaveLength(1)
    })
    await Effect.runPromise(
      Effect.provide(program, Layer.merge(how === "merged" ? events : Layer.fresh(events), commands))
    )
  })

  it("are in each other's transactions, and see what is not committed only inside", () =>
    run(
      Effect.gen(function* () {
        const filename = freshFile()
        const [a, b] = [yield* openedEvents({ filename }), yield* openedEvents({ filename })]
        const inside = Effect.zipRight(appendTo(b.store, "1"), a.store.version(streamOf("1")))
        const both = Effect.zip(
          inside,
          Effect.promise(() => Effect.runPromise(b.store.version(streamOf("1"))))
        )
        expect(yield* a.database.transaction(both)).toEqual([1, 0])
        expect(yield* b.database.sql.withTransaction(a.store.version(streamOf("1")))).toBe(1)
        expect(
          yield* Effect.flip(b.database.transaction(Effect.zipRight(appendTo(a.store, "1"), Effect.fail("no"))))
        ).toBe("no")
        expect(yield* b.store.version(streamOf("1"))).toBe(1)
        yield* Effect.all([a.close, b.close])
      })
    ))

  it("share the connections, one of them where both want no more", () =>
    run(
      Effect.gen(function* () {
        const filename = freshFile()
        const snapshots = yield* opened(SnapshotStoreSqlite.layer({ filename }))
        const again = yield* opened(SnapshotStoreSqlite.layer({ filename }))
        const database = Context.get(again.context, SqliteDatabase.SqliteDatabase)
        expect(database.reader).toBe(database.sql)
        const events = yield* openedEvents({ filename })
        expect(openConnections(filename)).toBe(1)
        // The EventStore wants readers, and a single connection that nobody asked for does not keep it from them.
        yield* events.database.transaction(
          Effect.zipRight(
            appendTo(events.store, "1"),
            Effect.promise(() => run(readAll(events.store, "1")))
          )
        )
        expect(openConnections(filename)).toBe(2)
        const latest = Context.get(snapshots.context, SnapshotStore.SnapshotStore).latest(streamOf("1"))
        expect(yield* latest).toEqual(Option.none())
        yield* Effect.all([snapshots.close, again.close, events.close])
        expect(openConnections(filename)).toBe(0)
      })
    ))

  it("built in a transaction of the other, the second is in it", () =>
    withStore({ filename: freshFile() }, (_, { filename, transaction }) =>
      transaction(
        Effect.flatMap(Effect.scoped(Layer.build(CommandStoreSqlite.layer({ filename }))), (context) =>
          Context.get(context, CommandStore.CommandStore).count()
        )
      ).pipe(Effect.map((count) => expect(count).toBe(0)))
    ))
})

describe("options", () => {
  const cases = [
    ["synchronous", { synchronous: "OFF" }, {}],
    ["synchronous", {}, { synchronous: "NORMAL" }],
    ["pool.maxOpenConns", { pool: { maxOpenConns: 3 } }, { pool: { maxOpenConns: 4 } }],
    ["pool.maxOpenConns", {}, { pool: { maxOpenConns: 1 } }],
    ["pool.acquireTimeout", {}, { pool: { acquireTimeout: "1 second" } }],
    ["pool.connMaxIdleTime", { pool: { connMaxIdleTime: "2 minutes" } }, { pool: { connMaxIdleTime: "1 minute" } }],
    ["pool.maxWaiting", { pool: { maxWaiting: 5 } }, { pool: { maxWaiting: 6 } }]
  ] as const
  it("of who is refused change nothing for the others", () =>
    run(
      Effect.gen(function* () {
        const filename = freshFile()
        yield* opened(SnapshotStoreSqlite.layer({ filename }))
        const asked = { maxOpenConns: 5, acquireTimeout: "1 second" } as const
        expect(yield* Effect.flip(openedEvents({ filename, pool: asked }))).toMatchObject({
          what: "pool.acquireTimeout"
        })
        yield* openedEvents({ filename, pool: { maxOpenConns: 3 } })
      })
    ))

  it.each(cases)(
    "that two layers of a file ask for differently are refused by name: %s, %o, %o",
    (what, first, second) =>
      run(
        Effect.gen(function* () {
          const filename = freshFile()
          const a = yield* openedEvents({ filename, ...first })
          const error = yield* Effect.flip(openedEvents({ filename, ...second }))
          expect(error).toMatchObject({ _tag: "InvalidInput", what })
          expect(error.message).toContain("give both the same, or put the stores on one SqliteDatabase.layer")
          // Refused, it has left nothing: the last of the others closes the file.
          yield* appendTo(a.store, "1")
          yield* a.close
          expect(fs.readdirSync(path.dirname(filename))).toEqual([path.basename(filename)])
          yield* Effect.flatMap(openedEvents({ filename, ...second }), ({ close }) => close)
        })
      )
  )

  it("that only the first gives hold for both", () =>
    run(
      Effect.gen(function* () {
        const options = { filename: freshFile(), pool: { maxOpenConns: 1, acquireTimeout: 1 } } as const
        const a = yield* openedEvents(options)
        const b = yield* openedEvents({ filename: options.filename, pool: { maxOpenConns: 0, acquireTimeout: 0 } })
        expect(b.database.reader).toBe(b.database.sql)
        const late = Effect.promise(() => Effect.runPromise(Effect.flip(appendTo(b.store, "1"))))
        expect(yield* a.database.transaction(late)).toMatchObject({ _tag: "PoolTimeout" })
        yield* Effect.all([a.close, b.close])
      })
    ))
})

describe("one file is", () => {
  it("what another name leads to", () =>
    run(
      Effect.gen(function* () {
        const [directory, filename] = [temporaryDirectory(), freshFile()]
        const [link, folder] = [path.join(directory, "link.db"), path.join(directory, "folder")]
        fs.symlinkSync(filename, link)
        fs.symlinkSync(path.dirname(filename), folder)
        const names = [filename, link, path.join(folder, path.basename(filename))]
        const all = yield* Effect.forEach(names, (filename) => openedEvents({ filename }))
        expect(all.map(({ database }) => database.filename)).toEqual(names)
        for (const { store } of all) yield* all[0]?.database.transaction(appendTo(store, "1")) ?? Effect.void
        expect(openConnections(filename)).toBe(1)
        yield* Effect.forEach(all, ({ close }) => close)
      })
    ))

  it("neither a database in memory, of which each layer has its own, nor a file of another prefix of its name", () =>
    run(
      Effect.gen(function* () {
        const filename = freshFile()
        for (const names of [
          [":memory:", ":memory:"],
          [filename, `${filename}2`]
        ]) {
          const [a, b] = yield* Effect.forEach(names, (filename) => openedEvents({ filename }))
          if (a === undefined || b === undefined) return expect.unreachable()
          yield* appendTo(a.store, "1")
          expect(yield* b.store.count()).toBe(0)
          yield* Effect.all([a.close, b.close])
        }
      })
    ))

  it("not what has taken its place: a layer opened then has the new file, the other keeps the old one", () =>
    run(
      Effect.gen(function* () {
        const filename = freshFile()
        const old = yield* openedEvents({ filename, synchronous: "OFF" })
        yield* appendTo(old.store, "1")
        // A connection that reads the old file from now on.
        expect(yield* old.store.version(streamOf("1"))).toBe(1)
        for (const suffix of ["", "-wal", "-shm"]) fs.renameSync(filename + suffix, `${filename}.moved${suffix}`)
        const later = yield* openedEvents({ filename })
        expect(yield* later.store.count()).toBe(0)
        yield* appendTo(later.store, "2")
        const joined = yield* openedEvents({ filename })
        expect(yield* joined.database.transaction(appendTo(later.store, "2"))).toMatchObject({ version: 2 })
        expect(yield* old.store.version(streamOf("1"))).toBe(1)
        yield* Effect.all([old.close, later.close])
        expect(yield* readAll(joined.store, "2")).toHaveLength(2)
        yield* joined.close
      })
    ))
})

describe("opening and closing", () => {
  it("whoever closes first leaves the file open to the other, and the last leaves no log", async () => {
    for (const order of [
      [0, 1],
      [1, 0]
    ] as const) {
      const filename = freshFile()
      const all = await run(Effect.forEach([0, 1], () => openedEvents({ filename })))
      const [first, last] = [all[order[0]], all[order[1]]]
      if (first === undefined || last === undefined) return expect.unreachable()
      await run(first.close)
      await run(appendTo(last.store, "1"))
      expect(await run(readAll(last.store, "1"))).toHaveLength(1)
      await run(last.close)
      expect(openConnections(filename)).toBe(0)
      expect(fs.readdirSync(path.dirname(filename))).toEqual([path.basename(filename)])
      expect(await run(Effect.flip(appendTo(first.store, "1")))).toMatchObject({ _tag: "StoreUnavailable" })
    }
  })

  it("20 that open a new file at once share one database", () =>
    run(
      Effect.gen(function* () {
        const filename = freshFile()
        const all = yield* Effect.forEach(Array.from({ length: 20 }), () => openedEvents({ filename }), {
          concurrency: "unbounded"
        })
        const [first, ...others] = all
        if (first === undefined) return expect.unreachable()
        yield* Effect.forEach(all, ({ store }) => appendTo(store, "1"), { concurrency: "unbounded" })
        expect((yield* first.database.state).writer).toEqual({ open: 1, idle: 1, waiting: 0 })
        const inside = Effect.forEach(others, ({ store }) => appendTo(store, "1"))
        expect(yield* Effect.flip(first.database.transaction(Effect.zipRight(inside, Effect.fail("no"))))).toBe("no")
        expect(yield* first.store.version(streamOf("1"))).toBe(20)
        yield* Effect.forEach(all, ({ close }) => close, { concurrency: "unbounded" })
        expect(openConnections(filename)).toBe(0)
      })
    ))

  it("who opens a file while it is closed opens it anew", () =>
    run(
      Effect.gen(function* () {
        const filename = freshFile()
        const first = yield* openedEvents({ filename })
        const [held, go] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const { reader } = first.database
        const reading = reader.withTransaction(Effect.zipRight(Deferred.succeed(held, undefined), Deferred.await(go)))
        const holder = yield* Effect.fork(reading)
        yield* Deferred.await(held)
        // It waits for who still reads.
        const closing = yield* Effect.fork(first.close)
        yield* eventually(Effect.map(Effect.exit(first.store.count()), Exit.isFailure))
        const second = yield* openedEvents({ filename })
        yield* appendTo(second.store, "1")
        yield* Deferred.succeed(go, undefined)
        yield* Effect.all([Fiber.await(holder), Fiber.join(closing)])
        expect(yield* readAll(second.store, "1")).toHaveLength(1)
        yield* second.close
        expect(fs.readdirSync(path.dirname(filename))).toEqual([path.basename(filename)])
      })
    ))

  it("a failure to open is of one caller alone: the next opens what is there then", () =>
    run(
      Effect.gen(function* () {
        const directory = path.join(temporaryDirectory(), "missing")
        const filename = path.join(directory, "events.db")
        // Its scope stays open, and still it holds nothing.
        expect(yield* Effect.flip(SqliteDatabase.make({ filename, synchronous: "OFF" }))).toMatchObject({
          _tag: "InvalidInput"
        })
        fs.mkdirSync(directory)
        fs.writeFileSync(filename, "this is no database, and long enough to have a header of one\n".repeat(100))
        expect(yield* Effect.flip(SqliteDatabase.make({ filename }))).toMatchObject({ _tag: "StoreError" })
        fs.rmSync(filename)
        const { close, store } = yield* openedEvents({ filename })
        yield* appendTo(store, "1")
        yield* close
        expect(fs.readdirSync(directory)).toEqual(["events.db"])
      })
    ))

  it("those who wait for a locked file wait each for themselves: interrupted or too late, one leaves the others in line", () =>
    run(
      Effect.gen(function* () {
        const filename = freshFile()
        // Not in WAL mode yet: to set it, opening needs the lock.
        const raw = new Sqlite(filename)
        raw.exec("CREATE TABLE t (x); BEGIN EXCLUSIVE")
        const start = Effect.fork(SqliteDatabase.make({ filename, pool: { acquireTimeout: "1 minute" } }))
        const fibers = [yield* start, yield* start, yield* start] as const
        yield* Effect.yieldNow()
        yield* Fiber.interrupt(fibers[0])
        for (const fiber of fibers.slice(1)) expect((yield* Fiber.poll(fiber))._tag).toBe("None")
        raw.exec("COMMIT")
        raw.close()
        const [second, third] = [yield* Fiber.join(fibers[1]), yield* Fiber.join(fibers[2])]
        yield* third.transaction(second.sql`INSERT INTO t VALUES (1)`)
        expect((yield* second.state).writer).toEqual({ open: 1, idle: 1, waiting: 0 })
      })
    ))

  it("all of whom are interrupted while they wait leave nothing", () =>
    run(
      Effect.gen(function* () {
        const filename = freshFile()
        const raw = new Sqlite(filename)
        raw.exec("CREATE TABLE t (x); BEGIN EXCLUSIVE")
        const fibers = yield* Effect.forEach([1, 2, 3], () =>
          Effect.fork(SqliteDatabase.make({ filename, synchronous: "OFF" }))
        )
        yield* Effect.yieldNow()
        yield* Fiber.interruptAll(fibers)
        raw.exec("COMMIT")
        raw.close()
        // Options that differ are no longer in the way.
        const { close, store } = yield* openedEvents({ filename })
        yield* appendTo(store, "1")
        yield* close
        expect(fs.readdirSync(path.dirname(filename))).toEqual([path.basename(filename)])
      })
    ))

  it("other processes still have their own", async () => {
    const filename = freshFile()
    await withStore({ filename }, (store) =>
      Effect.gen(function* () {
        yield* Effect.promise(() => startChild(childCommand("start", filename)).done)
        expect(yield* readAll(store, "child")).toHaveLength(1)
      })
    )
  })
})
