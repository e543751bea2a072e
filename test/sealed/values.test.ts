/**
 * What sealing promises of cached values beyond the contract: what somebody has changed, or has moved, is absent and
 * counted; and a cache that its server has emptied goes on.
 */
import assert from "node:assert/strict"
import { Effect, Layer, Metric, Option, Redacted } from "effect"
import { CacheStore, CacheStoreEncoded, CacheStoreTwoLevels, CryptoService } from "effect-stores"
import { CacheStoreMemory } from "effect-stores/memory"
import { describe, test } from "vitest"
import { keyBytesOf } from "../crypto/fixtures.js"
import { sealed } from "./support.js"

const world = Effect.map(
  // A port of its own for each call.
  Effect.suspend(() => CacheStoreMemory.makeEncoded()),
  ({ encoded }) => ({
    port: encoded,
    layer: Layer.scoped(CacheStore.CacheStore, CacheStoreEncoded.make(encoded, { system: "memory" }))
  })
)

const undecodable = Metric.counter("effect_stores_cache_undecodable", {
  description: "Stored values that could not be read, and counted as absent",
  incremental: true
})
const counted = Effect.map(Metric.value(undecodable), ({ count }) => count)

const place = { tenantId: "acme", key: "k" }

/** Stores an entry, and reads it in all ways: it is absent, counted, and a load puts a value in its place. */
const isAbsent = (port: CacheStoreEncoded.Encoded, payload: CacheStoreEncoded.Payload, at = place) =>
  Effect.gen(function* () {
    const store = yield* CacheStore.CacheStore
    const put = port.set([{ ...at, ...payload, ttlMs: 60_000, graceMs: 0, tags: [] }])
    yield* put
    const before = yield* counted
    assert.deepEqual(yield* store.get(at.tenantId, at.key), Option.none())
    assert.equal((yield* store.getMany(at.tenantId, [at.key, "none"])).size, 0)
    assert.equal((yield* counted) - before, 2)
    assert.equal(yield* store.getOrSet(at.tenantId, at.key, Effect.succeed("loaded")), "loaded")
    assert.deepEqual(yield* store.get(at.tenantId, at.key), Option.some("loaded"))
  })

const payloadOf = (port: CacheStoreEncoded.Encoded) =>
  Effect.map(port.get(place, false), (entry): CacheStoreEncoded.Payload => {
    assert.ok(entry !== null && entry.keyId === "k1")
    return { value: entry.value, keyId: entry.keyId }
  })

const value = { text: "a value that nobody else should see" }

describe("a cached value", () => {
  test("is absent when a bit of it flips, when it is cut off, when it is plain, and under another key id", async () => {
    await Effect.gen(function* () {
      const { layer, port } = yield* world
      yield* Effect.gen(function* () {
        const store = yield* CacheStore.CacheStore
        yield* store.set("acme", "k", value)
        const payload = yield* payloadOf(port)
        const bytes = Buffer.from(payload.value, "base64url")
        for (let bit = 0; bit < bytes.length * 8; bit++) {
          const changed = Buffer.from(bytes)
          changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
          yield* isAbsent(port, { ...payload, value: changed.toString("base64url") })
        }
        for (let length = 0; length < payload.value.length; length += 11)
          yield* isAbsent(port, { ...payload, value: payload.value.slice(0, length) })
        yield* isAbsent(port, { ...payload, keyId: "k2" })
        yield* isAbsent(port, { value: JSON.stringify(value), keyId: null })
        yield* isAbsent(port, { value: payload.value, keyId: null })
        yield* port.set([{ ...place, ...payload, ttlMs: 60_000, graceMs: 0, tags: [] }])
        assert.deepEqual(yield* store.get("acme", "k"), Option.some(value))
      }).pipe(Effect.provide(sealed(layer)))
    }).pipe(Effect.runPromise)
  })

  test("is absent at another key, of another tenant, and in another store", async () => {
    await Effect.gen(function* () {
      const [one, two] = [yield* world, yield* world]
      const payload = yield* Effect.flatMap(CacheStore.CacheStore, (store) => store.set("acme", "k", value)).pipe(
        Effect.zipRight(payloadOf(one.port)),
        Effect.provide(sealed(one.layer))
      )
      yield* Effect.gen(function* () {
        yield* isAbsent(one.port, payload, { tenantId: "acme", key: "other" })
        yield* isAbsent(one.port, payload, { tenantId: "other", key: "k" })
      }).pipe(Effect.provide(sealed(one.layer)))
      yield* isAbsent(two.port, payload).pipe(Effect.provide(sealed(two.layer)))
    }).pipe(Effect.runPromise)
  })

  test("that is stale and does not open is never served, and one that opens is", async () => {
    await Effect.gen(function* () {
      const { layer, port } = yield* world
      yield* Effect.gen(function* () {
        const store = yield* CacheStore.CacheStore
        const fails = Effect.fail("the source is down" as const)
        const stale = (payload: CacheStoreEncoded.Payload) =>
          Effect.gen(function* () {
            yield* port.set([{ ...place, ...payload, ttlMs: 60_000, graceMs: 60_000, tags: [] }])
            yield* store.expire("acme", { keys: ["k"] })
            return yield* Effect.either(store.getOrSet("acme", "k", fails))
          })
        yield* store.set("acme", "k", value)
        const payload = yield* payloadOf(port)
        assert.deepEqual(
          (yield* stale(payload)).pipe((served) => served._tag === "Right" && served.right),
          value
        )
        assert.equal((yield* stale({ ...payload, value: payload.value.slice(4) }))._tag, "Left")
      }).pipe(Effect.provide(sealed(layer)))
    }).pipe(Effect.runPromise)
  })
})

describe("a cache", () => {
  test("whose server has lost everything, the notes too, goes on: processes agree again", async () => {
    await Effect.gen(function* () {
      const { port } = yield* world
      const notes = new Map<string, string>()
      const lossy: CacheStoreEncoded.Encoded = {
        ...port,
        note: (name, value) =>
          Effect.sync(() => {
            if (value !== null && !notes.has(name)) notes.set(name, value)
            return notes.get(name) ?? null
          })
      }
      const process = Layer.fresh(
        sealed(Layer.scoped(CacheStore.CacheStore, CacheStoreEncoded.make(lossy, { system: "memory" })))
      )
      const old = yield* Layer.build(process)
      const set = (context: typeof old, key: string) =>
        Effect.flatMap(CacheStore.CacheStore, (store) => store.set("acme", key, key)).pipe(Effect.provide(context))
      const get = (context: typeof old, key: string) =>
        Effect.flatMap(CacheStore.CacheStore, (store) => store.get("acme", key)).pipe(Effect.provide(context))
      yield* set(old, "first")
      notes.clear()
      const young = yield* Layer.build(process)
      yield* set(young, "second")
      assert.deepEqual(yield* get(old, "second"), Option.some("second"))
      yield* set(old, "third")
      assert.deepEqual(yield* get(young, "third"), Option.some("third"))
    }).pipe(Effect.scoped, Effect.runPromise)
  })

  test("with another key of the same id is refused when it is built", async () => {
    await Effect.gen(function* () {
      const { layer } = yield* world
      const shared = yield* Layer.build(layer)
      const on = (name: string) =>
        Layer.succeedContext(shared).pipe(
          CryptoService.seal,
          Layer.provide(
            CryptoService.layer({ keys: [{ id: "k1", key: Redacted.make(keyBytesOf(name)) }], primary: "k1" })
          )
        )
      yield* Effect.provide(Effect.void, on("k1"))
      const error = yield* Effect.flip(Effect.provide(Effect.void, on("k9")))
      assert.equal(error._tag, "KeyCheckFailed")
      assert.ok(!error.message.includes(keyBytesOf("k9").toString("hex")))
    }).pipe(Effect.scoped, Effect.runPromise)
  })

  test("that was put beside the seal stays absent, whichever level is asked", async () => {
    await Effect.gen(function* () {
      const { layer, port } = yield* world
      yield* port.set([{ ...place, value: '{"admin":true}', keyId: null, ttlMs: 60_000, graceMs: 0, tags: [] }])
      const levels = CacheStoreTwoLevels.layer({ first: sealed(CacheStoreMemory.layer()), second: sealed(layer) })
      yield* Effect.gen(function* () {
        const store = yield* CacheStore.CacheStore
        for (const _ of [1, 2, 3]) assert.deepEqual(yield* store.get("acme", "k"), Option.none())
        assert.equal((yield* store.getMany("acme", ["k"])).size, 0)
      }).pipe(Effect.provide(levels))
    }).pipe(Effect.scoped, Effect.runPromise)
  })

  test("on two levels is sealed once: a level that is sealed makes both", async () => {
    const levels = (
      first: Layer.Layer<CacheStore.CacheStore, unknown>,
      second: Layer.Layer<CacheStore.CacheStore, unknown>
    ) => CacheStoreTwoLevels.layer({ first, second })
    const plain = CacheStoreMemory.layer()
    for (const layer of [levels(plain, sealed(plain)), levels(sealed(plain), plain), sealed(levels(plain, plain))]) {
      const error = await Effect.runPromise(Effect.flip(Effect.provide(Effect.void, sealed(layer))))
      assert.match(String((error as Error).message), /is sealed already/)
    }
  })
})
