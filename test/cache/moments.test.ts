/**
 * What the CacheStore does in the very millisecond in which something ends, where a test can hold the time: in memory
 * by the Clock, on SQLite by the machine's.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as path from "node:path"
import { it } from "@effect/vitest"
import { Effect, Layer, Redacted, type Scope, TestClock } from "effect"
import type { CacheStoreEncoded } from "effect-stores"
import { CacheStoreMemory } from "effect-stores/memory"
import { CacheStorePg, PgDatabase } from "effect-stores/pg"
import { CacheStoreRedis, RedisDatabase } from "effect-stores/redis"
import { CacheStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { afterEach, beforeEach, describe, vi } from "vitest"
import { parse } from "../../src/redis/cacheStore/format.js"
import {
  describePg,
  describeRedis,
  freshDatabase,
  freshKeyPrefix,
  redisUrl,
  temporaryDirectory
} from "../support/backends.js"

interface Held {
  readonly encoded: CacheStoreEncoded.Encoded
  /** Lets so many milliseconds pass. */
  readonly pass: (ms: number) => Effect.Effect<void>
}

const write = (key: string, rest: Partial<CacheStoreEncoded.EncodedWrite> = {}): CacheStoreEncoded.EncodedWrite => ({
  tenantId: "t",
  key,
  value: "1",
  keyId: null,
  ttlMs: 10,
  graceMs: 10,
  tags: ["g"],
  ...rest
})

const moments = (test: (title: string, body: (held: Held) => Effect.Effect<void, unknown>) => void): void => {
  const freshMs = ({ encoded }: Held, key: string) =>
    Effect.map(encoded.get({ tenantId: "t", key }, true), (entry) => entry?.freshMs ?? null)

  const begin = ({ encoded }: Held, key: string, token: string, rest: Partial<CacheStoreEncoded.BeginRequest> = {}) =>
    Effect.map(
      encoded.begin({ tenantId: "t", keys: [key], tags: [], token, leaseMs: 10, refreshMs: 0, ...rest }),
      ([begun]) => begun as CacheStoreEncoded.Begun
    )

  const granted = (begun: CacheStoreEncoded.Begun): CacheStoreEncoded.Ticket =>
    begun._tag === "Granted" ? begun.ticket : assert.fail(begun._tag)

  test("an entry is fresh up to the end of its time to live, and stale up to the end of its grace", (held) =>
    Effect.gen(function* () {
      const { encoded, pass } = held
      const listed = Effect.map(encoded.list("t", ""), ({ items }) => items)
      for (const tags of [[], ["g"]]) {
        yield* encoded.set([write("k", { tags })])
        yield* pass(9)
        assert.strictEqual(yield* freshMs(held, "k"), 1)
        assert.deepStrictEqual(yield* listed, [{ key: "k", freshMs: 1 }])
        assert.strictEqual(yield* encoded.setIfAbsent(write("k")), false)
        assert.strictEqual((yield* encoded.info).entries, 1)
        yield* pass(1)
        assert.strictEqual(yield* freshMs(held, "k"), 0)
        assert.deepStrictEqual(yield* listed, [])
        assert.strictEqual((yield* encoded.info).entries, 0)
        assert.strictEqual(yield* encoded.touch({ tenantId: "t", key: "k" }, 10), false)
        yield* pass(9)
        assert.strictEqual(yield* freshMs(held, "k"), -9)
        yield* pass(1)
        assert.strictEqual(yield* freshMs(held, "k"), null)
      }
      yield* encoded.set([write("k")])
      yield* pass(10)
      assert.strictEqual(yield* encoded.setIfAbsent(write("k")), true)
    }))

  test("a touch begins both times at its own moment", (held) =>
    Effect.gen(function* () {
      const { encoded, pass } = held
      yield* encoded.set([write("k")])
      yield* pass(9)
      assert.strictEqual(yield* encoded.touch({ tenantId: "t", key: "k" }, 3), true)
      assert.strictEqual(yield* freshMs(held, "k"), 3)
      yield* pass(12)
      assert.strictEqual(yield* freshMs(held, "k"), -9)
      yield* pass(1)
      assert.strictEqual(yield* freshMs(held, "k"), null)
    }))

  for (const by of ["key", "tag"] as const) {
    test(`the grace of what is expired by its ${by} begins at that moment, and ends no later than it would have`, (held) =>
      Effect.gen(function* () {
        const { encoded, pass } = held
        const expire = by === "key" ? encoded.expire("t", ["k"]) : encoded.expireTags("t", ["g"])
        yield* encoded.set([write("k")])
        yield* pass(4)
        yield* expire
        assert.strictEqual(yield* freshMs(held, "k"), 0)
        yield* pass(9)
        assert.notStrictEqual(yield* freshMs(held, "k"), null)
        yield* pass(1)
        assert.strictEqual(yield* freshMs(held, "k"), null)
        // In the moment of its end it is stale already.
        yield* encoded.set([write("k")])
        yield* pass(10)
        yield* expire
        yield* pass(9)
        assert.notStrictEqual(yield* freshMs(held, "k"), null)
        yield* pass(1)
        assert.strictEqual(yield* freshMs(held, "k"), null)
        // Without a grace it ends in that moment.
        yield* encoded.set([write("k", { graceMs: 0 })])
        yield* expire
        assert.strictEqual(yield* freshMs(held, "k"), null)
      }))
  }

  test("what has as much left as is to be refreshed ahead is granted, and what has a millisecond more is fresh", (held) =>
    Effect.gen(function* () {
      const { encoded, pass } = held
      yield* encoded.set([write("k")])
      yield* pass(5)
      assert.strictEqual((yield* begin(held, "k", "a", { refreshMs: 4 }))._tag, "Fresh")
      yield* pass(1)
      assert.strictEqual((yield* begin(held, "k", "a", { refreshMs: 4 }))._tag, "Granted")
    }))

  test("a ticket lasts up to the end of its lease, or of the hold that it was settled with", (held) =>
    Effect.gen(function* () {
      const { encoded, pass } = held
      const first = granted(yield* begin(held, "k", "a"))
      yield* pass(9)
      assert.strictEqual((yield* begin(held, "k", "b"))._tag, "Busy")
      assert.deepStrictEqual(yield* encoded.renew([first], 10), [true])
      yield* pass(9)
      assert.strictEqual((yield* begin(held, "k", "b"))._tag, "Busy")
      yield* pass(1)
      assert.deepStrictEqual(yield* encoded.renew([first], 10), [false])
      assert.deepStrictEqual(yield* encoded.settle([{ ticket: first, write: write("k"), holdMs: 0 }]), [false])
      const second = granted(yield* begin(held, "k", "b"))
      assert.deepStrictEqual(yield* encoded.settle([{ ticket: second, write: null, holdMs: 10 }]), [true])
      yield* pass(9)
      assert.strictEqual((yield* begin(held, "k", "c"))._tag, "Busy")
      yield* pass(1)
      granted(yield* begin(held, "k", "c"))
      assert.strictEqual(yield* freshMs(held, "k"), null)
    }))
}

describe("the moments of the CacheStore in memory", () => {
  moments((title, body) =>
    it.effect(title, () =>
      Effect.flatMap(CacheStoreMemory.makeEncoded(), ({ encoded }) => body({ encoded, pass: TestClock.adjust }))
    )
  )
})

describe("the moments of the CacheStore on SQLite", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["Date"] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })
  const pass = (ms: number) => Effect.sync(() => void vi.setSystemTime(Date.now() + ms))
  moments((title, body) =>
    it.scopedLive(title, () =>
      Effect.flatMap(CacheStoreSqlite.makeEncoded(), (encoded) => body({ encoded, pass })).pipe(
        Effect.provide(Layer.orDie(SqliteDatabase.layer({ filename: path.join(temporaryDirectory(), "moments.db") })))
      )
    )
  )
})

/** Where the time is the server's no test can hold it: only that what has ended does not come back. */
const leases = <R, E, E2>(
  encoded: () => Effect.Effect<CacheStoreEncoded.Encoded, E, R | Scope.Scope>,
  database: () => Promise<Layer.Layer<R, E2>>
): void => {
  for (const [where, old] of [
    ["", null],
    [" beside a value that is still kept", "old"]
  ] as const) {
    it.scopedLive(`a load whose lease is over stores nothing${where}, and its ticket is not renewed`, () =>
      Effect.gen(function* () {
        const context = yield* Layer.build(yield* Effect.promise(database))
        const { begin, get, renew, set, settle } = yield* Effect.provide(encoded(), context)
        if (old !== null) yield* set([write("k", { value: old, ttlMs: 60_000 })])
        const request = { tenantId: "t", keys: ["k"], tags: ["g"], token: randomUUID(), leaseMs: 1 }
        const [begun] = yield* begin({ ...request, refreshMs: 120_000 })
        const ticket = begun?._tag === "Granted" ? begun.ticket : assert.fail(begun?._tag)
        yield* Effect.sleep(10)
        assert.deepStrictEqual(yield* renew([ticket], 1_000), [false])
        assert.deepStrictEqual(yield* settle([{ ticket, write: write("k"), holdMs: 0 }]), [false])
        assert.strictEqual((yield* get({ tenantId: "t", key: "k" }, false))?.value ?? null, old)
      })
    )
  }
}

describePg("the leases of the CacheStore on PostgreSQL", () => {
  leases(
    () => CacheStorePg.makeEncoded(),
    async () => PgDatabase.layer({ url: Redacted.make(await freshDatabase()) })
  )
})

describeRedis("the leases of the CacheStore on Redis", () => {
  leases(
    () => CacheStoreRedis.makeEncoded({ prefix: freshKeyPrefix() }),
    async () => RedisDatabase.layer({ url: Redacted.make(redisUrl() ?? "") })
  )
})

describe("what Redis still has in the millisecond of its end", () => {
  it("is no entry, neither fresh nor stale", () => {
    for (const text of ["s0001", `u${randomUUID()}0001`]) {
      assert.equal(parse(text, 5, 1)?.value, "1")
      assert.equal(parse(text, 5, -1)?.freshMs, Number.POSITIVE_INFINITY)
      assert.equal(parse(text, 5, 0), null)
    }
  })
})
