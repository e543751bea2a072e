/**
 * The property of bad input on the CacheStore: its operations, and what they must answer.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { CacheStore, type CacheStoreShape, type LoadOptions, type NewEntry, type SetOptions } from "../../CacheStore.js"
import type { InvalidInput } from "../../Errors.js"
import type { At, Operation } from "../hostileCalls.js"
import { copy, hostileCalls, isSteady, operationsOf, same } from "../hostileCalls.js"
import type { PropertyOptions } from "../suite.js"
import { collect } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshTenant } from "./fixtures.js"

interface World {
  readonly store: CacheStoreShape
  /** Has the entry `fixture`, which no case may change. */
  readonly tenantId: string
}

const operation = operationsOf<World>({ store: CacheStore.of({} as CacheStoreShape), tenantId: "t" })

const freshKey = (): string => `key-${randomUUID()}`

const lifeArg = (at: At): SetOptions => {
  const misspelt = at<unknown>("options.TTL", undefined)
  return at("options", {
    ...(misspelt === undefined ? {} : { TTL: misspelt }),
    ttl: at<Duration.DurationInput | undefined>("options.ttl", 60_000),
    grace: at<Duration.DurationInput | undefined>("options.grace", 0),
    tags: at("options.tags", ["t", at("options.tags[1]", "u")])
  })
}

const loadArg = (at: At): LoadOptions =>
  at("options", {
    ttl: at<Duration.DurationInput | undefined>("options.ttl", 60_000),
    tags: at<ReadonlyArray<string> | undefined>("options.tags", undefined),
    softTimeout: at<Duration.DurationInput | undefined>("options.softTimeout", 0),
    refreshAhead: at<Duration.DurationInput | undefined>("options.refreshAhead", 0)
  })

const isPlainText = (value: unknown): value is string => typeof value === "string" && value !== ""

/** What was put in and lives long enough is there as it was put in. */
const assertStored = ({ store }: World, tenantId: string, key: string, value: unknown) =>
  Effect.map(store.get(tenantId, key), (found) => {
    assert.ok(isPlainText(tenantId) && isPlainText(key))
    if (Option.isSome(found) && isSteady(value)) same(found.value, copy(value), "value")
    assert.ok(!("polluted" in {}), "a prototype was polluted")
  })

const operations: Readonly<Record<string, Operation<World>>> = {
  set: operation({
    args: (at, { tenantId }) => ({
      tenantId: at("tenantId", tenantId),
      key: at("key", freshKey()),
      value: at<unknown>("value", { list: [at<unknown>("value.list[0]", 1)] }),
      options: lifeArg(at)
    }),
    run: (store, { key, options, tenantId, value }) => store.set(tenantId, key, value, options),
    check: (world, { key, options, tenantId, value }) => {
      assert.ok(options === undefined || !("TTL" in options), "a misspelt key was left out silently")
      return assertStored(world, tenantId, key, value)
    }
  }),

  setIfAbsent: operation({
    args: (at, { tenantId }) => ({
      tenantId: at("tenantId", tenantId),
      key: at("key", freshKey()),
      value: at<unknown>("value", [1]),
      options: lifeArg(at)
    }),
    run: (store, { key, options, tenantId, value }) => store.setIfAbsent(tenantId, key, value, options),
    check: (world, { key, tenantId, value }, stored) =>
      stored === true ? assertStored(world, tenantId, key, value) : Effect.void
  }),

  setMany: operation({
    args: (at, { tenantId }) => ({
      tenantId: at("tenantId", tenantId),
      entries: at<ReadonlyArray<NewEntry>>("entries", [
        { key: freshKey(), value: 1 },
        at("entries[1]", { key: at("entries[1].key", freshKey()), value: at<unknown>("entries[1].value", 2) })
      ]),
      options: lifeArg(at)
    }),
    run: (store, { entries, options, tenantId }) => store.setMany(tenantId, entries, options),
    check: (world, { entries, tenantId }) =>
      Effect.forEach(entries, ({ key, value }) => assertStored(world, tenantId, key, value))
  }),

  get: operation({
    args: (at, { tenantId }) => ({ tenantId: at("tenantId", tenantId), key: at("key", "fixture") }),
    run: (store, { key, tenantId }) => store.get(tenantId, key),
    check: (world, { key, tenantId }, found) =>
      Effect.sync(() => {
        if (key === "fixture" && tenantId === world.tenantId) assert.ok(Option.isSome(found))
      })
  }),

  getMany: operation({
    args: (at, { tenantId }) => ({
      tenantId: at("tenantId", tenantId),
      keys: at("keys", ["fixture", at("keys[1]", "none")])
    }),
    run: (store, { keys, tenantId }) => store.getMany(tenantId, keys),
    check: (_, { keys }, found) => Effect.sync(() => assert.ok([...found.keys()].every((key) => keys.includes(key))))
  }),

  getOrSet: operation({
    args: (at, { tenantId }) => ({
      tenantId: at("tenantId", tenantId),
      key: at("key", freshKey()),
      load: at<Effect.Effect<unknown>>("load", Effect.succeed(at<unknown>("value", 1))),
      options: loadArg(at)
    }),
    run: (store, { key, load, options, tenantId }) => store.getOrSet(tenantId, key, load, options),
    check: () => Effect.void
  }),

  getOrSetMany: operation({
    args: (at, { tenantId }) => {
      const key = freshKey()
      const loaded = at<ReadonlyMap<string, unknown>>("load.given", new Map([[key, at<unknown>("value", 1)]]))
      return {
        tenantId: at("tenantId", tenantId),
        keys: at("keys", [key]),
        load: at("load", () => Effect.succeed(loaded)),
        options: loadArg(at)
      }
    },
    run: (store, { keys, load, options, tenantId }) => store.getOrSetMany(tenantId, keys, load, options),
    check: () => Effect.void
  }),

  touch: operation({
    args: (at, { tenantId }) => ({
      tenantId: at("tenantId", tenantId),
      key: at("key", freshKey()),
      ttl: at<Duration.DurationInput>("ttl", 1_000)
    }),
    run: (store, { key, tenantId, ttl }) => store.touch(tenantId, key, ttl),
    check: () => Effect.void
  }),

  delete: operation({
    args: (at, { tenantId }) => ({ tenantId: at("tenantId", tenantId), key: at("key", freshKey()) }),
    run: (store, { key, tenantId }) => store.delete(tenantId, key),
    check: ({ store }, { key, tenantId }) =>
      Effect.map(store.get(tenantId, key), (found) => assert.ok(Option.isNone(found)))
  }),

  deleteMany: operation({
    args: (at, { tenantId }) => ({
      tenantId: at("tenantId", tenantId),
      keys: at("keys", [freshKey(), at("keys[1]", freshKey())])
    }),
    run: (store, { keys, tenantId }) => store.deleteMany(tenantId, keys),
    check: () => Effect.void
  }),

  invalidate: operation({
    args: (at, { tenantId }) => ({
      tenantId: at("tenantId", tenantId),
      target: at("target", { keys: at("target.keys", [freshKey()]), tags: at("target.tags", [freshKey()]) })
    }),
    run: (store, { target, tenantId }) => store.invalidate(tenantId, target),
    check: () => Effect.void
  }),

  expire: operation({
    args: (at, { tenantId }) => ({
      tenantId: at("tenantId", tenantId),
      target: at("target", { keys: at("target.keys", [freshKey()]), tags: at("target.tags", [freshKey()]) })
    }),
    run: (store, { target, tenantId }) => store.expire(tenantId, target),
    check: () => Effect.void
  }),

  list: operation({
    args: (at, { tenantId }) => ({
      tenantId: at("tenantId", tenantId),
      options: at("options", { prefix: at<string | undefined>("options.prefix", "fix") })
    }),
    run: (store, { options, tenantId }) => collect(store.list(tenantId, options)),
    check: (_, { options }, listed) =>
      Effect.sync(() => assert.ok(listed.every(({ key }) => key.startsWith(options?.prefix ?? ""))))
  }),

  count: operation({
    args: (at, { tenantId }) => ({
      tenantId: at("tenantId", tenantId),
      options: at("options", { prefix: at<string | undefined>("options.prefix", "fix") })
    }),
    run: (store, { options, tenantId }) => store.count(tenantId, options),
    check: (_, __, count) => Effect.sync(() => assert.ok(Number.isInteger(count) && count >= 0))
  }),

  clear: operation({
    args: (at) => ({ tenantId: at("tenantId", freshTenant()) }),
    run: (store, { tenantId }) => store.clear(tenantId),
    check: () => Effect.void
  })
}

export const badInput = (test: Test, options: PropertyOptions): void => {
  test(`${options.runs} calls with hostile values fail typed and change nothing, or are answered rightly`, () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const tenantId = freshTenant()
      yield* store.set(tenantId, "fixture", { kept: true }, { ttl: "1 hour" })
      yield* hostileCalls(options, {
        operations,
        weightOf: (name) => (["list", "count", "clear"].includes(name) ? 1 : name.startsWith("set") ? 10 : 5),
        world: { store, tenantId },
        state: store.get(tenantId, "fixture"),
        documented: ["InvalidInput"]
      })
    }))

  test("a loader of many that is no function, or returns no Effect, fails typed and leaves nothing locked", () =>
    Effect.gen(function* () {
      const store = yield* CacheStore
      const tenantId = freshTenant()
      const loaders: ReadonlyArray<unknown> = [1, class {}, () => 1, () => Promise.resolve(new Map()), () => undefined]
      for (const loader of loaders) {
        const key = freshKey()
        const many = (load: unknown) =>
          store.getOrSetMany(tenantId, [key], load as () => Effect.Effect<ReadonlyMap<string, unknown>>)
        const error = yield* Effect.flip(many(loader))
        assert.equal(error._tag, "InvalidInput")
        assert.equal((error as InvalidInput).what, "load")
        const found = yield* many(() => Effect.succeed(new Map([[key, 1]])))
        assert.equal(found.get(key), 1)
      }
    }))
}
