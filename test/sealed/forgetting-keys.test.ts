/**
 * The keys of subjects and the ledger: backups that bring them back, keys that do not unwrap, processes that die in
 * between, transactions that are rolled back, and what is left on the disk.
 */
import assert from "node:assert/strict"
import * as fs from "node:fs"
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Cause, Chunk, Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Redacted, Stream } from "effect"
import { CryptoService, Errors, EventStore, type SubjectKeysEncoded, Subjects } from "effect-stores"
import { SubjectKeysMemory } from "effect-stores/memory"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { EventStoreSqlite, SqliteDatabase, SubjectKeysSqlite } from "effect-stores/sqlite"
import { describe, test } from "vitest"
import { keyBytesOf } from "../crypto/fixtures.js"
import { describePg, describeWith, temporaryDirectory } from "../support/backends.js"
import { spawnWorker } from "../support/child.js"
import { inFiles, inMemory, onServer } from "./places.js"
import {
  customer,
  everyWrite,
  gone,
  type Place,
  processOf,
  rules,
  run,
  seen,
  sharedKeys,
  shred,
  streamOf,
  whole,
  withKeys,
  write,
  written
} from "./subjects.js"
import { allStores, ring } from "./worlds.js"

const failureOf = <A, E>(exit: Exit.Exit<A, E>): E => {
  assert.ok(Exit.isFailure(exit), "must fail")
  const failure = Cause.failureOption(exit.cause)
  assert.ok(Option.isSome(failure), Cause.pretty(exit.cause))
  return failure.value
}

interface Tagged {
  readonly _tag: string
  readonly message: string
}

/** How building the layers of a process fails. */
const buildFailure = async <A>(process: Layer.Layer<A, unknown>): Promise<Tagged> =>
  failureOf(await Effect.runPromiseExit(Effect.scoped(Layer.build(process)))) as Tagged

/** Rows and notes, as a backup has them. */
const backup = Effect.gen(function* () {
  const port = yield* Subjects.SubjectKeys
  const { items: rows } = yield* port.all
  const notes = yield* Effect.forEach(["id", "lifetime", "key k1"], (name) =>
    Effect.map(port.note(name, null), (value) => [name, value] as const)
  )
  return { rows, notes }
})

type Backup = Effect.Effect.Success<typeof backup>

const world = new Map<string, () => Promise<Place>>([
  ["in memory", inMemory],
  ["in files", inFiles]
])

describe("a backup of the keys that is restored", () => {
  const comesBack = (name: string, place: () => Promise<Place>): void => {
    test(`${name}: what was forgotten since is forgotten again at the next start, or when it is asked for`, async () => {
      const where = await place()
      const kept = await run(processOf(where), Effect.zipRight(Effect.zipRight(write("c-1"), write("c-2")), backup))
      await run(
        processOf(where),
        Effect.gen(function* () {
          yield* shred("c-1")
          yield* shred("c-3")
          assert.deepEqual(yield* seen("c-1"), gone)
        })
      )
      // The rows as they were, and nothing of those that were not there.
      const restored = await restoredFrom(kept)
      const again = { ...where, keys: sharedKeys(restored) }
      await run(
        processOf(again),
        Effect.gen(function* () {
          assert.deepEqual([yield* seen("c-1"), yield* seen("c-2")], [gone, whole])
          for (const id of ["c-1", "c-3"]) assert.deepEqual(yield* written(id), everyWrite("SubjectShredded"))
          assert.equal(yield* Subjects.replay, 0)
        })
      )
      // Restored while a process runs.
      const later = await restoredFrom(kept)
      let current = restored
      const moving = withKeys({ ...where, keys: sharedKeys(restored) }, () => delegating(() => current))
      await run(
        processOf(moving, { ...rules, lifetime: 1 }),
        Effect.gen(function* () {
          assert.deepEqual(yield* seen("c-1"), gone)
          current = later
          yield* Effect.sleep(5)
          assert.deepEqual(yield* seen("c-1"), whole)
          assert.equal(yield* Subjects.replay, 2)
          assert.deepEqual([yield* seen("c-1"), yield* seen("c-2")], [gone, whole])
        })
      )
    })

    test(`${name}: one from before there were any keys brings back nobody`, async () => {
      const where = await place()
      await run(processOf(where), Effect.zipRight(write("c-1"), shred("c-1")))
      const empty = { ...where, keys: sharedKeys(await Effect.runPromise(SubjectKeysMemory.makeEncoded)) }
      await run(
        processOf(empty),
        Effect.gen(function* () {
          assert.deepEqual(yield* seen("c-1"), gone)
          assert.deepEqual(yield* written("c-1"), everyWrite("SubjectShredded"))
        })
      )
    })
  }
  for (const [name, place] of world) comesBack(name, place)

  test("a file that was copied back", async () => {
    const where = await inFiles()
    const copy = `${where.keysFile}.copy`
    await run(processOf(where), write("c-1"))
    fs.copyFileSync(where.keysFile, copy)
    await run(processOf(where), shred("c-1"))
    fs.copyFileSync(copy, where.keysFile)
    await run(
      processOf(where),
      Effect.gen(function* () {
        assert.deepEqual(yield* seen("c-1"), gone)
      })
    )
    // And the ledger is what did it.
    fs.copyFileSync(copy, where.keysFile)
    const other = { ...where, ledger: Subjects.layerLedgerMemory() }
    assert.deepEqual(await run(processOf(other), seen("c-1")), whole)
  })

  describePg("on a server", () => {
    test("a table that was put back", async () => {
      const where = await onServer()
      const database = PgDatabase.layer({ url: Redacted.make(where.url) })
      const statement = (text: string) =>
        run(
          database,
          Effect.flatMap(PgDatabase.PgDatabase, ({ sql }) => sql.unsafe(text))
        )
      await run(processOf(where), write("c-1"))
      await statement("create table backup as table es_subject_keys")
      await run(processOf(where), shred("c-1"))
      await statement("delete from es_subject_keys; insert into es_subject_keys select * from backup")
      assert.deepEqual(await run(processOf(where), seen("c-1")), gone)
    })
  })
})

/** A store of keys in memory as the backup has it. */
const restoredFrom = ({ notes, rows }: Backup): Promise<SubjectKeysEncoded.Encoded> =>
  Effect.runPromise(
    Effect.tap(SubjectKeysMemory.makeEncoded, (port) =>
      Effect.zipRight(
        Effect.forEach(rows, port.create, { discard: true }),
        Effect.forEach(notes, ([name, value]) => port.note(name, value), { discard: true })
      )
    )
  )

/** The port that is there at the moment. */
const delegating = (current: () => SubjectKeysEncoded.Encoded): SubjectKeysEncoded.Encoded => ({
  find: (by, values) => Effect.suspend(() => current().find(by, values)),
  create: (key) => Effect.suspend(() => current().create(key)),
  shred: (request) => Effect.suspend(() => current().shred(request)),
  rewrap: (request) => Effect.suspend(() => current().rewrap(request)),
  all: Effect.suspend(() => current().all),
  count: Effect.suspend(() => current().count),
  note: (name, value) => Effect.suspend(() => current().note(name, value))
})

const allKeys = Effect.flatMap(Subjects.SubjectKeys, ({ all }) => Effect.map(all, ({ items }) => items))

describe("a key that cannot be had", () => {
  /** In memory, and its rows after `change`, which every process sees. */
  const changed = async (
    change: (row: SubjectKeysEncoded.EncodedSubjectKey) => SubjectKeysEncoded.EncodedSubjectKey
  ) => {
    const where = await inMemory()
    await run(processOf(where), Effect.zipRight(write("c-1"), write("c-2")))
    const kept = await run(processOf(where), backup)
    const port = await restoredFrom({ ...kept, rows: kept.rows.map(change) })
    return { where: { ...where, keys: sharedKeys(port) }, port, rows: kept.rows.map(change) }
  }
  const reference = Subjects.reference(customer("c-1"))
  const of1 = (fields: Partial<SubjectKeysEncoded.EncodedSubjectKey>) => (row: SubjectKeysEncoded.EncodedSubjectKey) =>
    row.ref === reference ? { ...row, ...fields } : row

  const cases: ReadonlyArray<
    readonly [
      what: string,
      change: (rows: SubjectKeysEncoded.EncodedSubjectKey) => SubjectKeysEncoded.EncodedSubjectKey,
      tag: string
    ]
  > = [
    ["was changed", (row) => of1({ wrapped: `${row.wrapped?.slice(0, -4)}AAAA` })(row), "Tampered"],
    ["was cut off", (row) => of1({ wrapped: row.wrapped?.slice(0, 40) ?? null })(row), "Truncated"],
    ["is no envelope", of1({ wrapped: "{}" }), "UnsupportedFormat"],
    ["names another key of the ring", of1({ wrappedBy: "k2" }), "Tampered"]
  ]
  for (const [what, change, tag] of cases) {
    test(`one that ${what} is an error for reading and for writing, and no other key takes its place`, async () => {
      const { port, rows, where } = await changed(change)
      await run(
        processOf(where),
        Effect.gen(function* () {
          assert.deepEqual(yield* seen("c-1"), {
            ...Object.fromEntries(Object.keys(gone).map((name) => [name, tag])),
            cached: false
          })
          assert.deepEqual(yield* written("c-1"), everyWrite(tag))
          assert.deepEqual(yield* seen("c-2"), whole)
        })
      )
      const { items } = await Effect.runPromise(port.all)
      assert.deepEqual(new Set(items), new Set(rows))
    })
  }

  test("the key of another subject in its place is Tampered", async () => {
    const where = await inMemory()
    await run(processOf(where), Effect.zipRight(write("c-1"), write("c-2")))
    const kept = await run(processOf(where), backup)
    const [one, other] = kept.rows
    assert.ok(one !== undefined && other !== undefined)
    const port = await restoredFrom({ ...kept, rows: [{ ...one, wrapped: other.wrapped }, other] })
    const own = one.ref === reference ? "c-1" : "c-2"
    await run(
      processOf({ ...where, keys: sharedKeys(port) }),
      Effect.gen(function* () {
        assert.equal((yield* seen(own)).stream, "Tampered")
        assert.deepEqual(yield* written(own), everyWrite("Tampered"))
      })
    )
  })

  test("one that a lost key of the ring has wrapped is UnknownKeyId, a disabled one KeyDisabled: never another key", async () => {
    const where = await inMemory()
    await run(processOf(where), write("c-1"))
    const lost = await run(processOf(where, rules, ["k2"]), Effect.all([seen("c-1"), written("c-1")]))
    assert.equal(lost[0].stream, "UnknownKeyId")
    assert.deepEqual(lost[1], everyWrite("UnknownKeyId"))
    const disabled = CryptoService.layer({
      keys: [
        { id: "k2", key: Redacted.make(keyBytesOf("k2")) },
        { id: "k1", key: Redacted.make(keyBytesOf("k1")), status: "disabled" }
      ],
      primary: "k2"
    })
    const process = where.stores.pipe(
      CryptoService.seal,
      Layer.provideMerge(disabled.pipe(Subjects.withRules(rules))),
      Layer.provideMerge(Layer.merge(where.keys, where.ledger))
    )
    assert.deepEqual(await run(process, written("c-1")), everyWrite("KeyDisabled"))
    assert.equal((await run(where.keys, allKeys)).length, 1)
  })

  test("another key of the ring with the same id is found before anything is written", async () => {
    const where = await inMemory()
    await run(processOf(where), write("c-1"))
    const wrong = CryptoService.layer({ keys: [{ id: "k1", key: Redacted.make(keyBytesOf("other")) }], primary: "k1" })
    const error = await buildFailure(
      wrong.pipe(Subjects.withRules(rules), Layer.provide(Layer.merge(where.keys, where.ledger)))
    )
    assert.equal(error._tag, "KeyCheckFailed")
  })

  test("a store of keys that is down is retryable, for reading and for writing, and is asked again", async () => {
    const where = await inMemory()
    let isDown = false
    const failing = withKeys(where, (port) => ({
      ...port,
      find: (by, values) =>
        isDown
          ? Effect.fail(
              new Errors.StoreUnavailable({ operation: "find", retryable: true, cause: new Error("gone for a while") })
            )
          : port.find(by, values)
    }))
    await run(processOf(where), write("c-1"))
    await run(
      processOf(failing),
      Effect.gen(function* () {
        isDown = true
        const events = yield* EventStore.EventStore
        const read = yield* Effect.flip(Stream.runDrain(events.read(streamOf("c-1"))))
        assert.ok(read._tag === "KeyProviderError" && read.retryable, read.message)
        const append = events.append(streamOf("c-1"), [{ type: "Registered", data: {} }], { expected: "any" })
        const failure = yield* Effect.flip(append)
        assert.ok(Errors.isRetryable(failure), failure.message)
        isDown = false
        assert.deepEqual(yield* seen("c-1"), whole)
        yield* append
      })
    )
  })

  test("where there are no rules what is a subject's is not read, and is not written over with another key", async () => {
    const where = await inMemory()
    await run(processOf(where), write("c-1"))
    const without = where.stores.pipe(CryptoService.seal, Layer.provide(ring(["k1"])))
    await run(
      without,
      Effect.gen(function* () {
        const [events] = yield* allStores
        const error = yield* Effect.flip(Stream.runDrain(events.read(streamOf("c-1"))))
        assert.equal(error._tag, "UnknownKeyId")
        const id = (yield* Effect.orDie(run1(where))).id
        const update = yield* Effect.flip(events.maintenance.update(id, { data: {}, metadata: {} }))
        assert.equal(update._tag, "UnknownKeyId")
      })
    )
  })
})

/** The first event, as somebody with the keys reads it. */
const run1 = (where: Place) =>
  Effect.provide(
    Effect.flatMap(EventStore.EventStore, (events) =>
      Effect.map(Stream.runCollect(events.read(streamOf("c-1"), { limit: 1 })), Chunk.unsafeHead)
    ),
    processOf(where)
  )

describe("a process that ends between the ledger and the tombstone", () => {
  test("is killed: the ledger has the subject, and the next start forgets it", async () => {
    const where = await inFiles()
    await run(processOf(where), write("c-1"))
    const { keysFile, ledgerFile, storesFile } = where
    const worker = spawnWorker(program, { args: ["die", storesFile, keysFile, ledgerFile, "c-1"] })
    const exit = await worker.exited
    assert.equal(exit.signal, "SIGKILL", exit.stderr)
    assert.equal(fs.readFileSync(ledgerFile, "utf8").trim().split("\n").length, 1)
    assert.equal((await run(where.keys, allKeys))[0]?.shreddedAt, null)
    assert.deepEqual(await run(processOf(where), seen("c-1")), gone)
  })

  test("finds a key that came in between: the ledger is told which, and it is destroyed", async () => {
    const where = await inFiles()
    await Effect.runPromise(
      Effect.gen(function* () {
        const other = Effect.provide(yield* Layer.build(processOf(where)))
        const late = withKeys(where, (port) => ({
          ...port,
          shred: (request) => Effect.zipRight(Effect.orDie(other(write("c-1"))), port.shred(request))
        }))
        const one = Effect.provide(yield* Layer.build(processOf(late)))
        const { keyId } = yield* one(shred("c-1"))
        assert.match(keyId ?? "", /^[0-9a-f]{16}$/)
        const lines = fs.readFileSync(where.ledgerFile, "utf8").split("\n").filter(Boolean)
        assert.deepEqual(
          lines.map((line) => (JSON.parse(line) as { readonly keyId: string | null }).keyId),
          [null, keyId]
        )
        assert.deepEqual(yield* one(seen("c-1")), gone)
      }).pipe(Effect.scoped)
    )
  })

  test("fails at the tombstone: whoever asked is told, and asks again", async () => {
    const where = await inMemory()
    let fails = true
    const failing = withKeys(where, (port) => ({
      ...port,
      shred: (request) =>
        fails
          ? Effect.fail(
              new Errors.StoreUnavailable({ operation: "shred", retryable: true, cause: new Error("gone for a while") })
            )
          : port.shred(request)
    }))
    await run(
      processOf(failing),
      Effect.gen(function* () {
        yield* write("c-1")
        assert.equal((yield* Effect.flip(shred("c-1")))._tag, "StoreUnavailable")
        fails = false
        assert.equal(yield* Subjects.replay, 1)
        assert.deepEqual(yield* seen("c-1"), gone)
        yield* shred("c-1")
      })
    )
  })

  describeWith("strace", "as the system sees it", () => {
    test("has its ledger on the disk before the key is touched, and a new ledger's entry in its folder too", async () => {
      const { keysFile, ledgerFile, storesFile } = await inFiles()
      const trace = path.join(temporaryDirectory(), "trace")
      for (const [customer, folder] of [
        ["c-1", ["folder synced"]],
        ["c-2", []]
      ] as const) {
        const worker = spawnWorker(program, {
          args: ["forget", storesFile, keysFile, ledgerFile, customer],
          under: ["strace", "-f", "-y", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o", trace]
        })
        const { code, stderr } = await worker.exited
        assert.equal(code, 0, stderr)
        const steps = completed(fs.readFileSync(trace, "utf8")).flatMap((call) => {
          if (/^write\(\d+<[^>]*forgotten\.jsonl>/.test(call)) return ["written"]
          if (/^fsync\(\d+<[^>]*forgotten\.jsonl>/.test(call)) return ["synced"]
          if (call.includes(`<${path.dirname(ledgerFile)}>`)) return ["folder synced"]
          if (/^pwrite64\(\d+<[^>]*subjects\.db/.test(call)) return ["key"]
          return /^write\(1<.*forgotten/.test(call) ? ["said"] : []
        })
        const last = steps.slice(steps.indexOf("written"))
        assert.deepEqual(last.slice(0, last.indexOf("key") + 1), ["written", "synced", ...folder, "key"])
        assert.equal(last.at(-1), "said")
      }
    })

    test("fails, and has destroyed nothing, where the ledger's sync fails", async () => {
      const where = await inFiles()
      const { keysFile, ledgerFile, storesFile } = where
      await run(processOf(where), write("c-1"))
      const worker = spawnWorker(program, {
        args: ["forget", storesFile, keysFile, ledgerFile, "c-1"],
        under: ["strace", "-f", "-P", ledgerFile, "-e", "inject=fsync:error=EIO", "-o", "/dev/null"]
      })
      const { code, stderr } = await worker.exited
      assert.equal(code, 1)
      assert.match(stderr, /StoreError: writing to the ledger .*EIO/)
      const keys = new Sqlite(keysFile, { readonly: true })
      assert.deepEqual(keys.prepare("SELECT shredded_ms FROM es_subject_keys").pluck().all(), [null])
      keys.close()
    })
  })

  test("fails at the ledger: nothing is destroyed that would not be remembered", async () => {
    const where = await inMemory()
    const ledger = Layer.succeed(Subjects.ShredLedger, {
      append: () => Effect.fail(new Errors.StoreError({ operation: "append", cause: new Error("is full") })),
      entries: Stream.empty
    })
    await run(
      processOf({ ...where, ledger }),
      Effect.gen(function* () {
        yield* write("c-1")
        assert.equal((yield* Effect.flip(shred("c-1")))._tag, "StoreError")
        assert.deepEqual(yield* seen("c-1"), whole)
      })
    )
  })
})

const program = new URL("../workers/forgetter.ts", import.meta.url)

/** The system's calls in a trace, in the order in which they ended. */
const completed = (trace: string): ReadonlyArray<string> => {
  const begun = new Map<string, string>()
  return trace.split("\n").flatMap((line) => {
    const [, thread = "", call = ""] = /^(\d+) +(.*)$/.exec(line) ?? []
    if (call.endsWith("<unfinished ...>")) begun.set(thread, call)
    else return [call.startsWith("<... ") ? (begun.get(thread) ?? "") : call]
    return []
  })
}

describe("a key that was asked for before it was destroyed", () => {
  test("and comes after that is of use to whoever asked, and to nobody else", async () => {
    const where = await inMemory()
    await run(processOf(where), write("c-1"))
    const [asked, goes] = await Effect.runPromise(Effect.all([Deferred.make<void>(), Deferred.make<void>()]))
    const held = withKeys(where, (port) => ({
      ...port,
      find: (by, values) =>
        by === "ref"
          ? port.find(by, values)
          : Effect.tap(port.find(by, values), () =>
              Effect.zipRight(Deferred.succeed(asked, undefined), Deferred.await(goes))
            )
    }))
    await run(
      processOf(held),
      Effect.gen(function* () {
        const events = yield* EventStore.EventStore
        const reading = yield* Effect.fork(Stream.runCount(events.read(streamOf("c-1"))))
        yield* Deferred.await(asked)
        yield* shred("c-1")
        yield* Deferred.succeed(goes, undefined)
        assert.equal(yield* Fiber.join(reading), 2)
        assert.deepEqual(yield* seen("c-1"), gone)
      })
    )
  })
})

describe("another process of the system", () => {
  test("that reads and writes for the subject does neither any more when the stated time is over", async () => {
    const where = await inFiles()
    const { keysFile, ledgerFile, storesFile } = where
    const own = { ...rules, lifetime: "1 second" as const }
    await run(processOf(where, own), write("c-1"))
    const worker = spawnWorker(program, { args: ["watch", storesFile, keysFile, ledgerFile, "c-1"] })
    interface Report {
      readonly beganMs: number
      readonly seen: Record<string, unknown>
      readonly written: Record<string, unknown>
    }
    let endsMs = Number.POSITIVE_INFINITY
    let before = 0
    for await (const line of worker.lines) {
      const report = JSON.parse(line) as Report
      if (endsMs === Number.POSITIVE_INFINITY) {
        assert.equal(typeof report.seen.stream, "number")
        assert.deepEqual(report.written, everyWrite("done"))
        if (++before < 3) continue
        const { within } = await run(processOf(where, own), shred("c-1"))
        endsMs = Date.now() + Duration.toMillis(within)
      } else if (report.beganMs > endsMs) {
        assert.deepEqual(report.seen, gone)
        assert.deepEqual(report.written, everyWrite("SubjectShredded"))
        worker.kill()
      }
    }
    const exit = await worker.exited
    assert.equal(exit.signal, "SIGKILL", exit.stderr)
    assert.ok(Number.isFinite(endsMs), exit.stderr)
  })
})

describe("a transaction of the application", () => {
  const append = Effect.flatMap(EventStore.EventStore, (events) =>
    events.append(streamOf("c-1"), [{ type: "Registered", data: { name: "n" } }], { expected: "any" })
  )

  test("that is rolled back does not take the key with it, which others have sealed with meanwhile", async () => {
    const directory = temporaryDirectory()
    const stores = EventStoreSqlite.layer({ filename: path.join(directory, "stores.db") })
    const keys = SubjectKeysSqlite.layer({ filename: path.join(directory, "keys.db") })
    const process = CryptoService.seal(stores).pipe(
      Layer.provideMerge(ring(["k1"]).pipe(Subjects.withRules(rules))),
      Layer.provideMerge(Layer.merge(keys, Subjects.layerLedgerMemory()))
    )
    const rolledBack = Effect.flatMap(SqliteDatabase.SqliteDatabase, ({ transaction }) =>
      Effect.flip(transaction(Effect.zipRight(append, Effect.fail("no" as const))))
    )
    await run(
      process,
      Effect.gen(function* () {
        assert.equal(yield* rolledBack, "no")
        yield* append
      })
    )
    const read = Effect.flatMap(EventStore.EventStore, (events) => Stream.runCount(events.read(streamOf("c-1"))))
    assert.equal(await run(process, read), 1)
  })

  test("on the file that the keys are on too makes no key", async () => {
    const filename = path.join(temporaryDirectory(), "all.db")
    const process = CryptoService.seal(EventStoreSqlite.layer({ filename })).pipe(
      Layer.provideMerge(ring(["k1"]).pipe(Subjects.withRules(rules))),
      Layer.provideMerge(Layer.merge(SubjectKeysSqlite.layer({ filename }), Subjects.layerLedgerMemory()))
    )
    await run(
      process,
      Effect.gen(function* () {
        const { transaction } = yield* SqliteDatabase.SqliteDatabase
        const error = yield* Effect.flip(transaction(append))
        assert.equal(error._tag, "StoreError")
        assert.match(error.message, /a file of their own/)
        yield* append
        yield* transaction(append)
      })
    )
  })

  describePg("on a server", () => {
    test("of the same database that is rolled back does not take the key with it", async () => {
      const where = await onServer()
      const stores = PgDatabase.layer({ url: Redacted.make(where.url) })
      const process = CryptoService.seal(Layer.provideMerge(EventStorePg.layerFromDatabase(), stores)).pipe(
        Layer.provideMerge(ring(["k1"]).pipe(Subjects.withRules(rules))),
        Layer.provideMerge(Layer.merge(where.keys, where.ledger))
      )
      await run(
        process,
        Effect.gen(function* () {
          const { transaction } = yield* PgDatabase.PgDatabase
          assert.equal(yield* Effect.flip(transaction(Effect.zipRight(append, Effect.fail("no" as const)))), "no")
          yield* append
        })
      )
      const read = Effect.flatMap(EventStore.EventStore, (events) => Stream.runCount(events.read(streamOf("c-1"))))
      assert.equal(await run(process, read), 1)
    })
  })
})

describe("what is left of a destroyed key", () => {
  test("is neither in the file nor in its log", async () => {
    const where = await inFiles()
    await Effect.runPromise(
      Effect.gen(function* () {
        const use = Effect.provide(yield* Layer.build(processOf(where)))
        for (const id of ["c-1", "c-2", "c-3"]) yield* use(write(id))
        const { rows } = yield* use(backup)
        const wrapped = rows.find(({ ref }) => ref === Subjects.reference(customer("c-1")))?.wrapped
        const other = rows.find(({ ref }) => ref === Subjects.reference(customer("c-2")))?.wrapped
        assert.ok(typeof wrapped === "string" && typeof other === "string")
        const holds = (text: string) =>
          fs
            .readdirSync(path.dirname(where.keysFile))
            .filter((file) => file.startsWith(path.basename(where.keysFile)))
            .some((file) => fs.readFileSync(path.join(path.dirname(where.keysFile), file)).includes(text))
        assert.ok(holds(wrapped) && holds(other))
        yield* use(shred("c-1"))
        assert.deepEqual([holds(wrapped), holds(other)], [false, true])
        assert.deepEqual(yield* use(seen("c-2")), whole)
      }).pipe(Effect.scoped)
    )
  })

  test("names nobody, nor do the table and the ledger", async () => {
    const where = await inFiles()
    await run(processOf(where), Effect.zipRight(write("somebody-1"), shred("somebody-1")))
    const database = new Sqlite(where.keysFile, { readonly: true })
    const text = JSON.stringify(database.prepare("SELECT * FROM es_subject_keys").all())
    database.close()
    for (const what of [text, fs.readFileSync(where.ledgerFile, "utf8")]) {
      assert.ok(what.includes(Subjects.reference(customer("somebody-1"))))
      assert.ok(!what.includes("somebody"))
    }
  })
})

describe("the ledger in a file", () => {
  const entry = (n: number): Subjects.LedgerEntry => ({
    ref: n.toString(16).padStart(64, "0"),
    keyId: n % 2 === 0 ? null : n.toString(16).padStart(16, "0"),
    at: 1_700_000_000_000 + n
  })
  const file = () => path.join(temporaryDirectory(), "ledger.jsonl")
  const ledgerOn = (name: string) => Subjects.layerLedgerFile(name)
  const append = (...entries: ReadonlyArray<number>) =>
    Effect.flatMap(Subjects.ShredLedger, (ledger) => Effect.forEach(entries, (n) => ledger.append(entry(n))))
  const all = Effect.flatMap(Subjects.ShredLedger, ({ entries }) =>
    Effect.map(Stream.runCollect(entries), Chunk.toReadonlyArray)
  )

  test("has what was appended, for whoever opens it next, and nobody else may read it", async () => {
    const name = file()
    assert.deepEqual(await run(ledgerOn(name), all), [])
    await run(ledgerOn(name), append(1, 2))
    await run(ledgerOn(name), append(3))
    assert.deepEqual(await run(ledgerOn(name), all), [entry(1), entry(2), entry(3)])
    assert.equal(fs.statSync(name).mode & 0o777, 0o600)
  })

  test("keeps the entries of many who write at the same time apart", async () => {
    const name = file()
    const many = Array.from({ length: 50 }, (_, n) => n)
    await run(
      ledgerOn(name),
      Effect.forEach(many, (n) => append(n), { concurrency: "unbounded" })
    )
    const found = await run(ledgerOn(name), all)
    assert.deepEqual(new Set(found), new Set(many.map(entry)))
  })

  test("passes over what a dead process has left of a line, and goes on behind it", async () => {
    const name = file()
    await run(ledgerOn(name), append(1))
    fs.appendFileSync(name, JSON.stringify(entry(2)).slice(0, 40))
    await run(ledgerOn(name), append(3))
    assert.deepEqual(await run(ledgerOn(name), all), [entry(1), entry(3)])
  })

  test("with a line that somebody has changed is an error that names the line, and nothing starts", async () => {
    const where = await inFiles()
    await run(processOf(where), shred("c-1"))
    fs.appendFileSync(where.ledgerFile, '{"ref":"nobody","keyId":null,"at":1}\n')
    const error = await buildFailure(processOf(where))
    assert.equal(error._tag, "StoreError")
    assert.match(error.message, /its line 3 is no entry/)
  })

  test("in a directory that does not exist is refused at the start", async () => {
    const error = await buildFailure(Subjects.layerLedgerFile(path.join(temporaryDirectory(), "none", "ledger.jsonl")))
    assert.equal(error._tag, "InvalidInput")
    assert.equal((await buildFailure(Subjects.layerLedgerFile("")))._tag, "InvalidInput")
  })

  test("that cannot be written fails what was asked for", async () => {
    const directory = temporaryDirectory()
    const exit = await Effect.runPromiseExit(Effect.provide(append(1), Subjects.layerLedgerFile(directory)))
    assert.equal((failureOf(exit) as Tagged)._tag, "StoreError")
  })
})
