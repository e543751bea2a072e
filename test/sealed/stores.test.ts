/**
 * What sealing promises beyond the contracts: what is on the disk, what becomes of it when somebody changes it there, keys
 * that are other than they were, that rotate or are disabled, and stores with plain rows.
 */
import assert from "node:assert/strict"
import * as path from "node:path"
import { Cause, Chunk, Context, DateTime, Duration, Effect, Exit, Layer, Option, Redacted, Stream } from "effect"
import {
  CommandStore,
  CryptoService,
  EventStore,
  EventStoreEncoded,
  SnapshotStore,
  SnapshotStoreEncoded
} from "effect-stores"
import { CommandStoreMemory, EventStoreMemory, SnapshotStoreMemory } from "effect-stores/memory"
import { CommandStoreSqlite, EventStoreSqlite, SnapshotStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, test } from "vitest"
import { keyBytesOf, ringOf } from "../crypto/fixtures.js"
import { temporaryDirectory } from "../support/backends.js"

type Stores = EventStore.EventStore | CommandStore.CommandStore | SnapshotStore.SnapshotStore

const k1 = CryptoService.layer(ringOf("k1"))

/** All stores of one file, sealed at once. */
const allOn = (filename: string) =>
  Layer.mergeAll(
    EventStoreSqlite.layerFromDatabase(),
    CommandStoreSqlite.layerFromDatabase(),
    SnapshotStoreSqlite.layerFromDatabase()
  ).pipe(Layer.provideMerge(SqliteDatabase.layer({ filename })))

const sealedOn = <E>(filename: string, keys: Layer.Layer<CryptoService.CryptoService, E>) =>
  allOn(filename).pipe(CryptoService.seal, Layer.provide(keys))

const freshFile = () => path.join(temporaryDirectory(), "stores.db")

const run = <A, E, R, E2>(layer: Layer.Layer<R, E2>, program: Effect.Effect<A, E, R>): Promise<A> =>
  Effect.runPromise(Effect.provide(program, layer))

const stream = { tenantId: "acme", domain: "Account", aggregateId: "a-1" }
const mark = "00000000-0000-7000-8000-00000000000f"
const idOf = (n: number) => `00000000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`
const events = (from: number, to: number, metadata = {}) =>
  Array.from({ length: to - from + 1 }, (_, i) => ({
    id: idOf(from + i),
    type: "Deposited",
    data: { amount: from + i },
    metadata
  }))

const readAll = Effect.flatMap(EventStore.EventStore, (store) =>
  Effect.map(Stream.runCollect(store.read(stream)), Chunk.toReadonlyArray)
)
const amounts = Effect.map(readAll, (all) => all.map(({ data }) => (data as { readonly amount: number }).amount))

/** Changes the file behind the back of the stores. */
const tamper = (statement: string) => Effect.flatMap(SqliteDatabase.SqliteDatabase, ({ sql }) => sql.unsafe(statement))

const append = (from: number, to: number, metadata = {}) =>
  Effect.flatMap(EventStore.EventStore, (store) =>
    store.append(stream, events(from, to, metadata), { expected: from - 1 })
  )

const failure = async <A, E, R, E2>(layer: Layer.Layer<R, E2>, program: Effect.Effect<A, E, R>) => {
  const exit = await Effect.runPromiseExit(Effect.provide(program, layer))
  assert.ok(Exit.isFailure(exit), "must fail")
  const error = Cause.failureOption(exit.cause)
  assert.ok(Option.isSome(error), Cause.pretty(exit.cause))
  return error.value as { readonly _tag: string; readonly message: string }
}

describe("what somebody has changed on the disk", () => {
  const changed = async (statement: string, program: Effect.Effect<unknown, unknown, Stores>) => {
    const layer = sealedOn(freshFile(), k1)
    return await failure(
      layer,
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const snapshots = yield* SnapshotStore.SnapshotStore
        yield* append(1, 5, { by: "me" })
        yield* store.append({ ...stream, aggregateId: "a-2" }, events(6, 6), { expected: "any" })
        yield* snapshots.save(stream, { version: 5, lastEventMark: mark, schemaVersion: "1", state: [5] })
        yield* tamper(statement)
        // What is left alone is read as before.
        const other = yield* Stream.runCollect(store.read({ ...stream, aggregateId: "a-2" }))
        assert.equal(Chunk.size(other), 1)
        return yield* program
      })
    )
  }
  const one = "WHERE aggregate_id = 'a-1' AND version = 3"
  const cases: ReadonlyArray<readonly [what: string, statement: string, tag: string]> = [
    [
      "the data of another event",
      `UPDATE es_events SET data = (SELECT data FROM es_events WHERE version = 2) ${one}`,
      "Tampered"
    ],
    ["its metadata as its data", `UPDATE es_events SET data = metadata ${one}`, "Tampered"],
    ["another type", `UPDATE es_events SET type = 'Withdrawn' ${one}`, "Tampered"],
    ["another id", `UPDATE es_events SET id = '${idOf(99)}' ${one}`, "Tampered"],
    ["no metadata any more", `UPDATE es_events SET metadata = '' ${one}`, "Tampered"],
    ["another key id beside it", `UPDATE es_events SET key_id = 'k2' ${one}`, "Tampered"],
    ["plain text", `UPDATE es_events SET data = '{"amount":1000}', key_id = NULL ${one}`, "NotEncrypted"],
    ["plain text under the old key id", `UPDATE es_events SET data = '{"amount":1000}' ${one}`, "UnsupportedFormat"],
    ["half of it", `UPDATE es_events SET data = substr(data, 1, 40) ${one}`, "Truncated"],
    ["a character more", `UPDATE es_events SET data = data || '!' ${one}`, "UnsupportedFormat"]
  ]
  for (const [what, statement, tag] of cases) {
    test(`an event with ${what} is ${tag}, with its stream and version, in streams, feeds, pages and alone`, async () => {
      const feed = Effect.flatMap(EventStore.EventStore, (store) => Stream.runDrain(store.feed()))
      const page = Effect.flatMap(EventStore.EventStore, (store) => store.page({ limit: 3 }))
      for (const program of [readAll, feed, page]) {
        const error = await changed(statement, program)
        assert.equal(error._tag, tag)
        assert.match(error.message, /acme\/Account\/a-1, version 3/)
        assert.ok(!error.message.includes("1000"))
      }
    })
  }

  test("a snapshot of another stream is Tampered, one that is damaged is corrupt: neither is a state", async () => {
    const layer = sealedOn(freshFile(), k1)
    await run(
      layer,
      Effect.gen(function* () {
        const snapshots = yield* SnapshotStore.SnapshotStore
        const { sql } = yield* SqliteDatabase.SqliteDatabase
        const other = { ...stream, aggregateId: "a-2" }
        for (const one of [stream, other])
          yield* snapshots.save(one, { version: 5, lastEventMark: mark, schemaVersion: "1", state: [one.aggregateId] })
        yield* tamper("UPDATE es_snapshots SET state = substr(state, 1, 50) WHERE aggregate_id = 'a-1'")
        assert.equal((yield* Effect.flip(snapshots.latest(stream)))._tag, "SnapshotCorrupt")
        // With a checksum that fits, as anybody can make one.
        const [row] = yield* sql<{ readonly state: string; readonly created: number }>`
          SELECT state, created_ms AS created FROM es_snapshots WHERE aggregate_id = 'a-2'`
        assert.ok(row !== undefined)
        const forged = { ...stream, version: 5, lastEventMark: mark, schemaVersion: "1", state: row.state }
        const checksum = SnapshotStoreEncoded.checksum({ ...forged, keyId: "k1", createdAt: row.created })
        yield* sql`UPDATE es_snapshots SET state = ${row.state}, created_ms = ${row.created}, checksum = ${checksum}
          WHERE aggregate_id = 'a-1'`
        assert.equal((yield* Effect.flip(snapshots.latest(stream)))._tag, "Tampered")
        assert.ok(Option.isSome(yield* snapshots.latest(other)))
      })
    )
  })

  test("an event with a version that is none is Tampered too, and no defect", async () => {
    const get = Effect.flatMap(EventStore.EventStore, (store) => store.get(idOf(3)))
    for (const version of ["-1", "-9007199254740993", "4503599627370497"]) {
      const error = await changed(`UPDATE es_events SET version = ${version} ${one}`, get)
      assert.equal(error._tag, "Tampered")
    }
  })

  test("the outcome of a command with another status is Tampered", async () => {
    const error = await failure(
      sealedOn(freshFile(), k1),
      Effect.gen(function* () {
        const commands = yield* CommandStore.CommandStore
        yield* commands.create({ id: idOf(1), tenantId: "acme", domain: "Account", type: "Do", data: 1 })
        yield* commands.update(idOf(1), { status: "failed", outcome: "no money" })
        yield* tamper("UPDATE es_commands SET status = 'succeeded'")
        return yield* commands.get(idOf(1))
      })
    )
    assert.equal(error._tag, "Tampered")
    assert.match(error.message, /the outcome of command/)
  })
})

describe("keys", () => {
  test("another key of the same id is found before anything is written", async () => {
    const filename = freshFile()
    await run(sealedOn(filename, k1), append(1, 2))
    const wrong = CryptoService.layer({ keys: [{ id: "k1", key: Redacted.make(keyBytesOf("k9")) }], primary: "k1" })
    assert.equal((await failure(sealedOn(filename, wrong), append(3, 3)))._tag, "KeyCheckFailed")
    assert.deepEqual(await run(sealedOn(filename, k1), amounts), [1, 2])
  })

  test("rotate: what the old key has sealed is read, what is written has the new one; ids stay unique", async () => {
    const filename = freshFile()
    await run(sealedOn(filename, k1), append(1, 2, { by: "me" }))
    const both = CryptoService.layer({
      keys: [
        { id: "k2", key: Redacted.make(keyBytesOf("k2")) },
        { id: "k1", key: Redacted.make(keyBytesOf("k1")), status: "decryptOnly" }
      ],
      primary: "k2"
    })
    const keyIds = Effect.flatMap(
      SqliteDatabase.SqliteDatabase,
      ({ sql }) => sql<{ readonly key_id: string }>`SELECT key_id FROM es_events ORDER BY position`
    )
    await run(
      sealedOn(filename, both),
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        yield* append(3, 3)
        assert.deepEqual(yield* amounts, [1, 2, 3])
        // A repeat of what another key has sealed is a repeat, and something else under its id is none.
        assert.equal((yield* store.append(stream, events(2, 2, { by: "me" }), { expected: "any" })).version, 2)
        const clash = yield* Effect.flip(
          store.append(stream, [{ ...events(2, 2)[0], type: "Deposited", data: 0 }], { expected: "any" })
        )
        assert.equal(clash._tag, "DuplicateEvent")
        // A change of one payload keeps the other, under the new key.
        yield* store.maintenance.update(idOf(1), { data: { amount: 10 } })
        const [first] = yield* readAll
        assert.deepEqual([first?.data, first?.metadata], [{ amount: 10 }, { by: "me" }])
        yield* store.maintenance.update(idOf(2), { metadata: {} })
        yield* store.maintenance.update(idOf(3), { metadata: { late: true } })
        const all = yield* readAll
        assert.deepEqual(
          all.map(({ metadata }) => metadata),
          [{ by: "me" }, {}, { late: true }]
        )
        assert.deepEqual(
          (yield* keyIds).map(({ key_id }) => key_id),
          ["k2", "k2", "k2"]
        )
      })
    )
  })

  test("one that is disabled, or unknown, is named with its rows, and all others open", async () => {
    const filename = freshFile()
    await run(sealedOn(filename, k1), append(1, 1))
    const k2 = CryptoService.layer(ringOf("k2"))
    const disabled = CryptoService.layer({
      keys: [
        { id: "k2", key: Redacted.make(keyBytesOf("k2")) },
        { id: "k1", key: Redacted.make(keyBytesOf("k1")), status: "disabled" }
      ],
      primary: "k2"
    })
    await run(sealedOn(filename, k2), append(2, 2))
    for (const [keys, tag] of [
      [disabled, "KeyDisabled"],
      [k2, "UnknownKeyId"]
    ] as const) {
      const error = await failure(sealedOn(filename, keys), readAll)
      assert.equal(error._tag, tag)
      assert.match(error.message, /k1/)
      const second = Effect.flatMap(EventStore.EventStore, (store) => store.get(idOf(2)))
      assert.ok(Option.isSome(await run(sealedOn(filename, keys), second)))
    }
  })
})

describe("a store with plain rows", () => {
  test("is read and sealed from now on, up to the watermark; then required; and the way back", async () => {
    const filename = freshFile()
    const head = await run(
      allOn(filename),
      Effect.gen(function* () {
        yield* append(1, 2)
        const snapshots = yield* SnapshotStore.SnapshotStore
        yield* snapshots.save(stream, { version: 2, lastEventMark: mark, schemaVersion: "1", state: 2 })
        return yield* Effect.flatMap(EventStore.EventStore, (store) => store.head)
      })
    )
    const policy = (policy: CryptoService.Policy, watermark?: CryptoService.WatermarkOptions) =>
      sealedOn(filename, CryptoService.layer({ ...ringOf("k1"), policy, watermark }))

    assert.equal((await failure(sealedOn(filename, k1), readAll))._tag, "NotEncrypted")
    const until = { events: head, createdUntil: DateTime.unsafeMake(Date.now()) }
    await run(policy("EncryptAllowPlaintext", until), append(3, 3))
    assert.deepEqual(await run(policy("EncryptAllowPlaintext", until), amounts), [1, 2, 3])
    const latest = Effect.flatMap(SnapshotStore.SnapshotStore, (store) => store.latest(stream))
    assert.ok(Option.isSome(await run(policy("EncryptAllowPlaintext", until), latest)))
    const old = { createdUntil: DateTime.unsafeMake(0) }
    assert.equal((await failure(policy("EncryptAllowPlaintext", old), latest))._tag, "NotEncrypted")

    // A process without keys is refused by now; one that is on its way back is not.
    await run(policy("ForbidEncryptAllowDecrypt"), append(4, 4))
    const newer = await failure(policy("EncryptAllowPlaintext", until), readAll)
    assert.equal(newer._tag, "NotEncrypted")
    assert.match(newer.message, /version 4/)
    assert.deepEqual(
      await run(policy("ForbidEncryptAllowDecrypt"), Effect.zipRight(append(5, 5), amounts)),
      [1, 2, 3, 4, 5]
    )
    // Written back plain, so that only what was sealed needs a key.
    const back = Effect.flatMap(EventStore.EventStore, (store) =>
      store.maintenance.update(idOf(3), { data: { amount: 3 } })
    )
    await run(policy("ForbidEncryptAllowDecrypt"), back)
    assert.deepEqual(await run(allOn(filename), amounts), [1, 2, 3, 4, 5])
  })
})

describe("sealing", () => {
  test("twice fails when it is built, and so does sealing what is no store", async () => {
    for (const layer of [
      EventStoreMemory.layer(),
      CommandStoreMemory.layer(),
      SnapshotStoreMemory.layer()
    ] as ReadonlyArray<Layer.Layer<Stores, unknown>>) {
      const twice = layer.pipe(CryptoService.seal, CryptoService.seal, Layer.provide(k1))
      const error = await failure(twice, Effect.void)
      assert.match(error.message, /is sealed already/)
    }
    const none = Layer.succeed(Context.GenericTag<"none", number>("none"), 1).pipe(
      CryptoService.seal,
      Layer.provide(k1)
    )
    assert.match((await failure(none, Effect.void)).message, /gives no store/)
  })

  test("twice fails also where a copy of the port, with other members, is in between", async () => {
    const between = Layer.flatMap(Layer.provide(CryptoService.seal(EventStoreMemory.layer()), k1), (services) =>
      Layer.effect(
        EventStore.EventStore,
        EventStoreEncoded.relift(Context.get(services, EventStore.EventStore), (port) =>
          Effect.succeed({ ...port, head: port.head })
        )
      )
    )
    assert.deepEqual(await run(between, Effect.zipRight(append(1, 2), amounts)), [1, 2])
    const twice = between.pipe(CryptoService.seal, Layer.provide(k1))
    assert.match((await failure(twice, Effect.void)).message, /is sealed already/)
  })

  test("leaves what nobody can read without it: a typed error names the key", async () => {
    const filename = freshFile()
    await run(sealedOn(filename, k1), append(1, 1))
    const error = await failure(allOn(filename), readAll)
    assert.equal(error._tag, "StoreError")
    assert.match(error.message, /k1/)
  })

  test("takes a user's own port", async () => {
    const seen: Array<string> = []
    const own = Layer.effect(
      EventStore.EventStore,
      Effect.map(EventStoreMemory.makeEncoded, (port) =>
        EventStoreEncoded.make(
          {
            ...port,
            append: (appends, guards) => {
              for (const { events } of appends) for (const { data } of events) seen.push(data)
              return port.append(appends, guards)
            }
          },
          { system: "own", pollInterval: Duration.seconds(1) }
        )
      )
    ).pipe(CryptoService.seal, Layer.provide(k1))
    assert.deepEqual(await run(own, Effect.zipRight(append(1, 2), amounts)), [1, 2])
    assert.ok(seen.length === 2 && seen.every((data) => !data.includes("amount")))
  })

  test("makes an update anew that lost against another", async () => {
    let lost = 0
    const own = Layer.effect(
      EventStore.EventStore,
      Effect.map(EventStoreMemory.makeEncoded, (port) => {
        // Somebody else changes its metadata in the moment before it is replaced.
        const other = Effect.suspend(() =>
          lost++ > 0
            ? Effect.void
            : Effect.flatMap(port.get(idOf(1)), (row) =>
                row === null
                  ? Effect.void
                  : port.replace({ ...row, was: row, revision: null, metadata: "other", changes: true })
              )
        )
        return EventStoreEncoded.make(
          { ...port, replace: (request) => Effect.zipRight(other, port.replace(request)) },
          { system: "own", pollInterval: Duration.seconds(1) }
        )
      })
    ).pipe(CryptoService.seal, Layer.provide(k1))
    const updated = Effect.flatMap(EventStore.EventStore, (store) =>
      store.maintenance.update(idOf(1), { data: { amount: 9 }, metadata: { by: "us" } })
    )
    assert.deepEqual(await run(own, Effect.zipRight(append(1, 1), Effect.zipRight(updated, amounts))), [9])
    // the one that lost, and the one that did not
    assert.equal(lost, 2)
  })

  test("lets appends under any of two processes on one stream all happen", async () => {
    const filename = freshFile()
    const many = (from: number) =>
      Effect.flatMap(EventStore.EventStore, (store) =>
        Effect.forEach(
          Array.from({ length: 50 }, (_, i) => i),
          (i) => store.append(stream, events(from + i, from + i), { expected: "any" }),
          { concurrency: "unbounded" }
        )
      )
    const layer = sealedOn(filename, k1)
    await run(layer, Effect.void)
    await Promise.all([run(layer, many(1)), run(sealedOn(filename, k1), many(1001))])
    const all = await run(layer, readAll)
    assert.equal(all.length, 100)
    assert.equal(new Set(all.map(({ id }) => id)).size, 100)
  })

  test("appends to an absent stream under streamExists as a plain store does", async () => {
    const layer = sealedOn(freshFile(), k1)
    await run(
      layer,
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const absent = yield* Effect.flip(store.append(stream, events(1, 1), { expected: "streamExists" }))
        assert.equal(absent._tag === "VersionConflict" && absent.actual, 0)
        yield* store.append(stream, events(1, 1), { expected: "any" })
        yield* store.append(stream, events(2, 2), { expected: "streamExists" })
        yield* store.maintenance.deleteStream(stream)
        // What was last seen of it is no longer true.
        yield* store.append(stream, events(3, 3), { expected: "any" })
        assert.deepEqual(yield* amounts, [3])
        yield* store.maintenance.deleteStream(stream)
        const again = yield* Effect.flip(store.append(stream, events(4, 4), { expected: "streamExists" }))
        assert.equal(again._tag === "VersionConflict" && again.actual, 0)
      })
    )
  })
})
