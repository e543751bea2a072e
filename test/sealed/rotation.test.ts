/**
 * Sealing anew what is stored: under a new key, and where there was none. Whoever reads sees no difference, nothing that
 * is written meanwhile is lost, and in the end nothing needs the old key.
 */
import assert from "node:assert/strict"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import Sqlite from "better-sqlite3"
import { Chunk, DateTime, Duration, Effect, Layer, Option, Redacted, Stream } from "effect"
import {
  CacheStore,
  CommandStore,
  CryptoService,
  DataStore,
  EventStore,
  EventStoreEncoded,
  SnapshotStore
} from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { EventStoreMemory } from "effect-stores/memory"
import { DataStoreMinio } from "effect-stores/minio"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { afterAll, describe, test } from "vitest"
import * as format from "../../src/crypto/formats/object.js"
import type { Steps } from "../../src/crypto/formats/steps.js"
import { rowRecord } from "../../src/crypto/upkeep.js"
import { keyBytesOf } from "../crypto/fixtures.js"
import {
  describePg,
  describeRedis,
  describeWith,
  freshDatabase,
  freshKeyPrefix,
  redisUrl,
  temporaryDirectory
} from "../support/backends.js"
import { startCeph } from "../support/s3.js"
import {
  allStores,
  bucket,
  fill,
  idOf,
  look,
  mark,
  memoryPorts,
  onPg,
  onPorts,
  onRedisAndFiles,
  onSqlite,
  type Ports,
  ring,
  type Stores,
  streamOf,
  tenantId,
  under,
  type World
} from "./worlds.js"

const run = <A, E>(world: World, program: Effect.Effect<A, E, Stores>): Promise<A> =>
  Effect.runPromise(Effect.provide(program, world))

/** What a re-encryption gave: its last word, and what did not open. */
const reencrypted = (options?: CryptoService.ReencryptOptions) =>
  Effect.gen(function* () {
    const given = yield* Stream.runCollect(CryptoService.reencrypt(yield* allStores, options))
    const all = Chunk.toReadonlyArray(given)
    const steps = all.filter((one) => one._tag === "Progress")
    const last = steps[steps.length - 1]
    assert.ok(last !== undefined)
    for (const { done, perSecond, timeLeft, total } of steps) {
      assert.ok(done <= total && perSecond >= 0)
      assert.ok(done === 0 || Option.isSome(timeLeft))
    }
    return { last, unopened: all.filter((one) => one._tag === "Unopened") }
  })

const counts = Effect.map(
  Effect.flatMap(allStores, (stores) => CryptoService.countKeys(stores, { deep: true })),
  (all) => Object.fromEntries(all.map(({ keyId, records, store }) => [`${store} ${keyId}`, records]))
)

const countsOf = (keyId: string | null) => ({
  [`EventStore ${keyId}`]: 60,
  [`CommandStore ${keyId}`]: 30,
  [`SnapshotStore ${keyId}`]: 10,
  [`CacheStore ${keyId}`]: 20,
  [`DataStore ${keyId}`]: 3
})

const findUnopened = (options?: CryptoService.SurveyOptions) =>
  Effect.flatMap(allStores, (stores) =>
    Effect.map(Stream.runCollect(CryptoService.findUnopened(stores, options)), Chunk.toReadonlyArray)
  )

const rotates = (name: string, world: () => Promise<World>, options: CryptoService.ReencryptOptions = {}): void => {
  for (const deep of [false, true]) {
    test(`${name}: all is under the new key${deep ? ", bodies anew" : ""}, and reads as before without the old`, async () => {
      const stores = await world()
      const before = await run(under(stores, ["oldkey01"]), Effect.zipRight(fill(60), look))
      await run(
        under(stores, ["newkey02", "oldkey01"]),
        Effect.gen(function* () {
          assert.deepEqual(yield* counts, countsOf("oldkey01"))
          const { last, unopened } = yield* reencrypted({ ...options, deep })
          assert.deepEqual(unopened, [])
          assert.deepEqual([last.resealed, last.left, last.done], [123, 0, 123])
          assert.deepEqual(yield* counts, countsOf("newkey02"))
          // Begun again it finds nothing to do.
          assert.equal((yield* reencrypted({ ...options, deep })).last.resealed, 0)
        })
      )
      await run(
        under(stores, ["newkey02"]),
        Effect.gen(function* () {
          assert.deepEqual(yield* look, before)
          assert.deepEqual(yield* findUnopened({ deep: true }), [])
          // What is about the entries has stayed: their tags remove them.
          const cache = yield* CacheStore.CacheStore
          yield* cache.invalidate(`${tenantId}: %`, { tags: ["t"] })
          assert.deepEqual(yield* cache.get(`${tenantId}: %`, "k:1"), Option.none())
          assert.deepEqual(yield* cache.get(tenantId, "k:1"), Option.some({ n: 1 }))
        })
      )
    })
  }

  test(`${name}: what is plain is read, then sealed, then required to be`, async () => {
    const stores = await world()
    const before = await run(stores, Effect.zipRight(fill(60), look))
    const head = await run(
      stores,
      Effect.flatMap(EventStore.EventStore, (events) => events.head)
    )
    await run(
      under(stores, ["k1"], { policy: "EncryptAllowPlaintext", watermark: { events: head } }),
      Effect.gen(function* () {
        assert.deepEqual(yield* look, before)
        assert.deepEqual(yield* counts, countsOf(null))
        const { last, unopened } = yield* reencrypted(options)
        assert.deepEqual(unopened, [])
        assert.deepEqual([last.resealed, last.left], [123, 0])
        assert.deepEqual(yield* counts, countsOf("k1"))
      })
    )
    await run(
      under(stores, ["k1"]),
      Effect.gen(function* () {
        assert.deepEqual(yield* look, before)
        assert.deepEqual(yield* findUnopened({ deep: true }), [])
      })
    )
  })
}

describe("sealing anew", () => {
  rotates("in memory", async () => onPorts(await Effect.runPromise(memoryPorts)))
  rotates("on SQLite", async () => onSqlite(path.join(temporaryDirectory(), "stores.db")))
  describePg("on PostgreSQL", () => rotates("PostgreSQL", async () => onPg(await freshDatabase())))
  describeRedis("in Redis and files", () =>
    rotates(
      "Redis and files",
      async () => onRedisAndFiles(redisUrl() as string, freshKeyPrefix(), temporaryDirectory()),
      { exclusive: true }
    )
  )

  describeWith("ceph", "on Ceph's gateway", async () => {
    const { accessKey, endpoint, secretKey, stop } = await startCeph()
    afterAll(stop)
    const withObjects = async (bucketPrefix: string, putIfMatch: "unquoted" | undefined) => {
      const others = onPorts(await Effect.runPromise(memoryPorts))
      const objects = DataStoreMinio.layer({
        endpoint,
        accessKey,
        secretKey: Redacted.make(secretKey),
        partBytes: 5 * 2 ** 20,
        capabilities: { putIfAbsent: true, putIfMatch },
        bucketPrefix
      })
      return Layer.merge(others, objects)
    }
    const read = Effect.map(look, ({ bodies, ...rest }) => ({
      ...rest,
      // The server's own time.
      bodies: bodies.map(({ modifiedAt: _, ...body }) => body)
    }))
    for (const [prefix, putIfMatch, exclusive] of [
      ["if-match-", "unquoted", false],
      ["alone-", undefined, true]
    ] as const) {
      test(`objects are sealed anew ${exclusive ? "by copies, alone" : "on a condition"}`, async () => {
        const stores = await withObjects(prefix, putIfMatch)
        const before = await run(under(stores, ["oldkey01"]), Effect.zipRight(fill(60), read))
        await run(
          under(stores, ["newkey02", "oldkey01"]),
          Effect.gen(function* () {
            if (exclusive) assert.equal((yield* reencrypted()).last.left, 3)
            assert.equal((yield* reencrypted({ exclusive })).last.left, 0)
            assert.deepEqual(yield* counts, countsOf("newkey02"))
          })
        )
        assert.deepEqual(await run(under(stores, ["newkey02"]), read), before)
      })
    }
  })

  test("objects are left where nobody can see whether they are still the same, unless nobody else writes", async () => {
    const ports = await Effect.runPromise(memoryPorts)
    const files = DataStoreFileSystem.layer({ root: temporaryDirectory(), sync: false })
    const stores = Layer.merge(onPorts(ports), files)
    await run(under(stores, ["k1"]), fill(60))
    await run(
      under(stores, ["k2", "k1"]),
      Effect.gen(function* () {
        assert.deepEqual((yield* reencrypted()).last.left, 3)
        assert.equal((yield* counts)["DataStore k1"], 3)
        assert.deepEqual((yield* reencrypted({ exclusive: true })).last.left, 0)
      })
    )
  })

  test("a body that begins with a key header, as bodies once did, loses it when it is encrypted anew", async () => {
    const ports = await Effect.runPromise(memoryPorts)
    const id = { bucket, name: "o/10" }
    const rotate = (deep: boolean) =>
      run(
        under(onPorts(ports), ["newkey02", "oldkey01"]),
        Effect.zipRight(
          reencrypted({ deep }),
          Effect.map(counts, (all) => all["DataStore oldkey01"])
        )
      )
    const stored = Effect.gen(function* () {
      const found = yield* ports.objects.open(id)
      assert.ok(found !== null && found !== "NoBucket")
      const { object, read } = found
      return { object, bytes: Buffer.concat([...(yield* Stream.runCollect(read(0, object.size)))]) }
    })
    await run(under(onPorts(ports), ["oldkey01"]), fill(60))
    const { bytes, object } = await Effect.runPromise(stored)
    const head = Buffer.from(object.metadata.slice(0, object.metadata.indexOf(".")), "base64url")
    const old = Buffer.concat([head, bytes.subarray(head.length)])
    const { checksums, writeId, ...fields } = object
    const put = { ...fields, writeId: writeId as string, size: null, finish: () => ({ checksums }) }
    await Effect.runPromise(ports.objects.put(put, Stream.make(old), { _tag: "Always" }))
    // The key beside it is exchanged, and the one in front is still seen.
    assert.equal(await rotate(false), 1)
    assert.ok((await Effect.runPromise(stored)).bytes.equals(old))
    assert.equal(await rotate(true), undefined)
    const after = await Effect.runPromise(stored)
    assert.ok(!after.bytes.includes("oldkey01") && !after.bytes.subarray(266).equals(old.subarray(266)))
    const text = await run(
      under(onPorts(ports), ["newkey02"]),
      Effect.map(look, ({ bodies }) => bodies[1]?.body)
    )
    assert.equal(text, Buffer.alloc(10, "grüße ").toString("hex"))
  })

  test("no byte of the file needs the old key", async () => {
    const filename = path.join(temporaryDirectory(), "stores.db")
    await run(under(onSqlite(filename), ["oldkey01"]), fill(60))
    const spellings = [
      "oldkey01",
      // In the header of an envelope, and in that of an object.
      Buffer.from([0xfe, 1, 1, 0, ...Buffer.from("oldkey01")]).toString("base64url"),
      Buffer.from("oldkey01").toString("base64url").slice(0, 10)
    ]
    const found = (): ReadonlyArray<number> => {
      const db = new Sqlite(filename)
      // The name that its check value is kept under says nothing of what is sealed.
      db.exec("DELETE FROM es_notes WHERE name = 'key oldkey01'; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
      db.close()
      const bytes = fs.readFileSync(filename)
      return spellings.map((text) => bytes.toString("latin1").split(text).length - 1)
    }
    const [id = 0, record = 0, object = 0] = found()
    assert.ok(id >= 123 && record >= 120 && object >= 3, JSON.stringify([id, record, object]))
    await run(under(onSqlite(filename), ["newkey02", "oldkey01"]), reencrypted())
    assert.deepEqual(found(), [0, 0, 0])
  })
})

describe("a cached value that a tag has ended", () => {
  test("is under its old key as long as it lives, is served to nobody, and is nothing that is left", async () => {
    const filename = path.join(temporaryDirectory(), "stores.db")
    await run(
      under(onSqlite(filename), ["k1"]),
      Effect.gen(function* () {
        const cache = yield* CacheStore.CacheStore
        yield* cache.set(tenantId, "ended", "value", { tags: ["tag"], ttl: "1 hour" })
        yield* cache.invalidate(tenantId, { tags: ["tag"] })
      })
    )
    const { last } = await run(under(onSqlite(filename), ["k2", "k1"]), reencrypted())
    assert.equal(last.left, 0)
    assert.equal(last.walk, 1)
  })
})

describe("what others do in the moment before a record is replaced", () => {
  /** Each replacement waits until something was done, once. */
  const disturbed = (ports: Ports, disturb: { run: Effect.Effect<void> }): Ports => {
    const first = Effect.suspend(() => {
      const { run } = disturb
      disturb.run = Effect.void
      return run
    })
    const { cache, commands, events, objects, snapshots } = ports
    return {
      events: { ...events, replace: (request) => Effect.zipRight(first, events.replace(request)) },
      commands: { ...commands, replace: (request) => Effect.zipRight(first, commands.replace(request)) },
      snapshots: { ...snapshots, replace: (request) => Effect.zipRight(first, snapshots.replace(request)) },
      cache: { ...cache, replace: (...args) => Effect.zipRight(first, cache.replace(...args)) },
      objects: { ...objects, copy: (...args) => Effect.zipRight(first, objects.copy(...args)) }
    }
  }

  const body = (text: string) => new TextEncoder().encode(text)
  const cases: ReadonlyArray<
    readonly [
      what: string,
      change: Effect.Effect<unknown, unknown, Stores>,
      seen: Effect.Effect<unknown, unknown, Stores>
    ]
  > = [
    [
      "an event is changed",
      Effect.flatMap(EventStore.EventStore, (store) => store.maintenance.update(idOf(0), { data: "changed" })),
      Effect.flatMap(EventStore.EventStore, (store) =>
        Effect.map(
          store.get(idOf(0)),
          Option.map(({ data }) => data)
        )
      )
    ],
    [
      "a command ends",
      Effect.flatMap(CommandStore.CommandStore, (store) =>
        store.update(idOf(1_000_000), { status: "failed", outcome: "changed" })
      ),
      Effect.flatMap(CommandStore.CommandStore, (store) =>
        Effect.map(
          store.get(idOf(1_000_000)),
          Option.flatMap(({ outcome }) => outcome)
        )
      )
    ],
    [
      "a newer snapshot is saved",
      Effect.flatMap(SnapshotStore.SnapshotStore, (store) =>
        store.save(
          { ...streamOf(0), domain: "Konto: % ü" },
          { version: 50, lastEventMark: mark, schemaVersion: "1", state: "changed" }
        )
      ),
      Effect.flatMap(SnapshotStore.SnapshotStore, (store) =>
        Effect.map(
          store.latest({ ...streamOf(0), domain: "Konto: % ü" }),
          Option.map(({ state }) => state)
        )
      )
    ],
    [
      "an entry is set",
      Effect.flatMap(CacheStore.CacheStore, (store) => store.set(tenantId, "k:0", "changed")),
      Effect.flatMap(CacheStore.CacheStore, (store) => store.get(tenantId, "k:0"))
    ],
    [
      "an object is put",
      Effect.flatMap(DataStore.DataStore, (store) => store.put({ bucket, name: "o/0" }, body("changed"))),
      Effect.flatMap(DataStore.DataStore, (store) =>
        Effect.flatMap(store.get({ bucket, name: "o/0" }), (found) =>
          Effect.map(Stream.runCollect(Option.getOrThrow(found).body), (pieces) =>
            Option.some(Buffer.concat(Chunk.toReadonlyArray(pieces)).toString())
          )
        )
      )
    ]
  ]
  for (const [what, change, seen] of cases) {
    test(`${what}: that stays, and all is under the new key`, async () => {
      const ports = await Effect.runPromise(memoryPorts)
      await run(under(onPorts(ports), ["k1"]), fill(60))
      // By a process that does not have the new primary yet, so that another walk has something to do.
      const other = under(onPorts(ports), ["k1", "k2"])
      const disturb = { run: Effect.orDie(Effect.asVoid(Effect.provide(change, other))) }
      await run(
        under(onPorts(disturbed(ports, disturb)), ["k2", "k1"]),
        Effect.gen(function* () {
          const { last, unopened } = yield* reencrypted({ concurrency: 1 })
          assert.deepEqual([last.left, unopened], [0, []])
          assert.deepEqual(yield* counts, countsOf("k2"))
        })
      )
      assert.deepEqual(await run(under(onPorts(ports), ["k2"]), seen), Option.some("changed"))
    })
  }

  test("an event is deleted: it stays deleted", async () => {
    const ports = await Effect.runPromise(memoryPorts)
    await run(under(onPorts(ports), ["k1"]), fill(60))
    const disturb = { run: Effect.orDie(Effect.asVoid(ports.events.deleteStream(streamOf(0)))) }
    await run(
      under(onPorts(disturbed(ports, disturb)), ["k2", "k1"]),
      Effect.gen(function* () {
        assert.equal((yield* reencrypted({ concurrency: 1 })).last.left, 0)
        assert.equal(yield* Effect.flatMap(EventStore.EventStore, (store) => store.count()), 0)
      })
    )
  })
})

describe("what does not open", () => {
  test("is said with its place and the reason, stays as it is, and stops nothing", async () => {
    const filename = path.join(temporaryDirectory(), "stores.db")
    await run(under(onSqlite(filename), ["k1"]), fill(60))
    // A snapshot whose checksum fits is found out by its seal, any other by its checksum.
    const db = new Sqlite(filename)
    db.exec(`UPDATE es_events SET type = 'Removed' WHERE id = '${idOf(3)}';
      UPDATE es_events SET data = '{}', metadata = '{}', key_id = NULL WHERE id = '${idOf(4)}';
      UPDATE es_commands SET data = substr(data, 1, 20) WHERE id = '${idOf(1_000_005)}';
      UPDATE es_snapshots SET state = substr(state, 2) WHERE aggregate_id = 'a-7';
      UPDATE es_cache_entries SET value = substr(value, 1, 30) WHERE tenant_id = 'acme' AND key = 'k:2';
      UPDATE es_objects SET content_type = 'text/html' WHERE name = 'o/10'`)
    db.close()
    const expected = [
      [`the data of event ${idOf(3)} (acme/Account/a-0, version 4)`, "Tampered"],
      [`the data of event ${idOf(4)} (acme/Account/a-0, version 5)`, "NotEncrypted"],
      [`the data of command ${idOf(1_000_005)} (acme/Account, Add)`, "Truncated"],
      ["the snapshot of acme/Konto: % ü/a-7", "SnapshotCorrupt"],
      ["the cached value k:2 of acme", "Truncated"],
      ["the object documents/o/10", "Tampered"]
    ] as const
    const holds = (unopened: ReadonlyArray<CryptoService.Unopened>) => {
      assert.deepEqual(
        unopened.map(({ error }) => error._tag),
        expected.map(([, tag]) => tag)
      )
      for (const [i, { error }] of unopened.entries())
        assert.ok(error.message.includes(expected[i]?.[0] ?? "?"), error.message)
    }
    await run(
      under(onSqlite(filename), ["k2", "k1"]),
      Effect.gen(function* () {
        holds(yield* findUnopened())
        const { last, unopened } = yield* reencrypted()
        holds(unopened)
        assert.deepEqual([last.resealed, last.left], [117, 6])
        const after = yield* counts
        assert.deepEqual(
          [after["EventStore k1"], after["EventStore null"], after["CommandStore k1"], after["DataStore k1"]],
          [1, 1, 1, 1]
        )
      })
    )
    // Who has the old key still finds them as they were.
    holds(await run(under(onSqlite(filename), ["k1", "k2"]), findUnopened()))
  })

  test("that is plain and newer than the watermark is not sealed, but said", async () => {
    const ports = await Effect.runPromise(memoryPorts)
    const plain = onPorts(ports)
    const append = (n: number) =>
      Effect.flatMap(EventStore.EventStore, (store) =>
        store.append(streamOf(0), [{ id: idOf(n), type: "Added", data: { n } }], { expected: "any" })
      )
    await run(plain, Effect.zipRight(append(1), append(2)))
    const head = await run(
      plain,
      Effect.flatMap(EventStore.EventStore, (store) => store.head)
    )
    await run(plain, append(3))
    const watermark = { events: head, createdUntil: DateTime.unsafeMake(0) }
    await run(
      under(plain, ["k1"], { policy: "EncryptAllowPlaintext", watermark }),
      Effect.gen(function* () {
        const { last, unopened } = yield* reencrypted()
        assert.deepEqual([last.resealed, last.left], [2, 1])
        assert.equal(unopened[0]?.error._tag, "NotEncrypted")
        assert.match(unopened[0]?.place ?? "", /a-0, version 3/)
        assert.deepEqual(unopened[0]?.keyIds, [null])
      })
    )
    const all = await run(
      under(plain, ["k1"]),
      Effect.flatMap(EventStore.EventStore, (store) =>
        Effect.flip(Stream.runDrain(store.read(streamOf(0), { fromVersion: 3 })))
      )
    )
    assert.equal(all._tag, "NotEncrypted")
  })
})

describe("what does not open as it was, once it is sealed,", () => {
  test("takes no record's place", async () => {
    const row = { data: "right", keyId: "k1" as string | null }
    function* inSteps<A>(value: A): Steps<A> {
      yield
      return value
    }
    let replaced = 0
    const cipher = await Effect.runPromise(Effect.provide(CryptoService.CryptoService, ring(["k2", "k1"])))
    const record = (opens: typeof row | CryptoService.CryptoError) =>
      rowRecord(
        cipher,
        {
          keyIds: ({ keyId }) => [keyId],
          open: (stored) => inSteps(stored === row ? { data: "right", keyId: null } : opens),
          seal: (key, opened) => inSteps({ ...opened, keyId: key.id }),
          subjectOf: () => undefined,
          payloads: ({ data }) => [data],
          replace: () => Effect.sync(() => ++replaced > 0)
        },
        "the record",
        ["k1"],
        Effect.succeed(row)
      )
    const tampered = new CryptoService.Tampered({ keyId: "k2", place: "there" })
    for (const opens of [tampered, { data: "wrong", keyId: null }]) {
      const error = await Effect.runPromise(Effect.flip(record(opens).reseal))
      assert.equal(error._tag, "Tampered")
    }
    assert.equal(replaced, 0)
    assert.equal(await Effect.runPromise(record({ data: "right", keyId: null }).reseal), "Resealed")
    assert.equal(replaced, 1)
  })

  test("ends the put of a body", async () => {
    const object = format.newObjectKey()
    const { header: bodyHeader, segments } = format.beginBody(object)
    const opening = { object, bodyHeader, keyId: "k1", place: () => "the object" }
    const sealed = await Effect.runPromise(Stream.runCollect(segments(Stream.make(Buffer.alloc(200_000, 7)))))
    const proved = (pieces: Iterable<Uint8Array>, of: Buffer) =>
      Effect.runPromise(
        Effect.either(
          Stream.runCount(
            format.proving(opening, Stream.fromIterable(pieces), () => createHash("sha256").update(of).digest("hex"))
          )
        )
      )
    const right = await proved(sealed, Buffer.alloc(200_000, 7))
    assert.ok(right._tag === "Right" && right.right > 0)
    const wrong = await proved(sealed, Buffer.alloc(200_000, 8))
    assert.ok(wrong._tag === "Left" && wrong.left._tag === "Tampered")
    const flipped = [...sealed].map((piece, i) => {
      const copy = Buffer.from(piece)
      if (i === 1) copy[100] = (copy[100] ?? 0) ^ 1
      return copy
    })
    const damaged = await proved(flipped, Buffer.alloc(200_000, 7))
    assert.ok(damaged._tag === "Left" && damaged.left._tag === "Tampered")
    const short = await proved([...sealed].slice(0, -1), Buffer.alloc(200_000, 7))
    assert.ok(short._tag === "Left" && short.left._tag === "Truncated")
  })
})

describe("a re-encryption", () => {
  test("fails with its backend or its provider of keys, typed, and goes on when it is begun again", async () => {
    const ports = await Effect.runPromise(memoryPorts)
    await run(under(onPorts(ports), ["k1"]), fill(60))
    let isDown = false
    const crypto = CryptoService.layerProvider({
      keys: ["k2", "k1"].map((id) => ({ id, wrapped: Buffer.from(id).toString("base64url") })),
      primary: "k2",
      cache: { uses: 40 }
    })
    const denied = Effect.fail(
      new CryptoService.KeyProviderError({ operation: "unwrap", reason: "unavailable", detail: "said the test" })
    )
    const provider = Layer.succeed(CryptoService.KeyProvider, {
      generate: () => denied,
      wrap: () => denied,
      rewrap: () => denied,
      unwrap: (wrapped) =>
        isDown ? denied : Effect.succeed(Redacted.make(keyBytesOf(Buffer.from(wrapped).toString()))),
      describe: Effect.succeed({ provider: "test", key: "1", nativeRewrap: false })
    })
    const world = onPorts(ports).pipe(CryptoService.seal, Layer.provide(crypto), Layer.provide(provider))
    await run(
      world,
      Effect.gen(function* () {
        isDown = true
        const error = yield* Effect.flip(reencrypted())
        assert.ok(error._tag === "KeyProviderError" && error.retryable)
        const half = yield* counts
        assert.ok((half["EventStore k2"] ?? 0) > 0 && (half["EventStore k1"] ?? 0) > 0, JSON.stringify(half))
        isDown = false
        assert.equal((yield* reencrypted()).last.left, 0)
        assert.deepEqual(yield* counts, countsOf("k2"))
      })
    )
  })

  test("goes no faster than it may", async () => {
    const ports = await Effect.runPromise(memoryPorts)
    await run(under(onPorts(ports), ["k1"]), fill(60))
    const started = Date.now()
    await run(under(onPorts(ports), ["k2", "k1"]), reencrypted({ perSecond: 100 }))
    assert.ok(Date.now() - started >= 1_230 - 50)
  })

  test("refuses by name what it cannot work on", async () => {
    const plain = await Effect.runPromise(
      Effect.map(EventStoreMemory.makeEncoded, (port) =>
        EventStoreEncoded.make(port, { system: "memory", pollInterval: Duration.seconds(1) })
      )
    )
    const failed = async (
      stores: ReadonlyArray<CryptoService.SealedService>,
      options?: CryptoService.ReencryptOptions
    ): Promise<string> =>
      (await Effect.runPromise(Effect.flip(Stream.runDrain(CryptoService.reencrypt(stores, options))))).message
    assert.match(await failed([]), /^stores: must not be empty/)
    assert.match(await failed([plain]), /^stores\[0\]: is no store that was sealed/)
    assert.match(await failed([undefined as never]), /^stores\[0\]/)
    const ports = await Effect.runPromise(memoryPorts)
    const on = <A>(
      options: CryptoService.PolicyOptions,
      use: (store: EventStore.EventStoreShape) => Promise<A>
    ): Promise<A> =>
      run(
        under(onPorts(ports), ["k1"], options),
        Effect.flatMap(EventStore.EventStore, (store) => Effect.promise(() => use(store)))
      )
    await on({}, async (store) => {
      assert.match(await failed([store], { concurrency: 0 }), /^options.concurrency: must be at least 1/)
      assert.match(await failed([store], { perSecond: 0.5 }), /^options.perSecond: must be a whole number/)
      assert.match(await failed([store], { deep: 1 as never }), /^options.deep: must be true or false/)
      assert.match(await failed([store], { speed: 1 } as never), /^a key of options/)
      assert.match(await failed([{ ...store }]), /^stores\[0\]: is no store that was sealed/)
    })
    assert.match(
      await on({ policy: "ForbidEncryptAllowDecrypt" }, (store) => failed([store])),
      /^EventStore: writes what is plain/
    )
    const readOnly = EventStoreSqlite.layer({ filename: path.join(temporaryDirectory(), "a.db"), readOnly: true })
    const message = await Effect.runPromise(
      Effect.flatMap(EventStore.EventStore, (store) => Effect.promise(() => failed([store]))).pipe(
        Effect.provide(readOnly.pipe(CryptoService.seal, Layer.provide(ring(["k1"]))))
      )
    )
    assert.match(message, /^reencrypt was refused: the store is read-only/)
  })
})
