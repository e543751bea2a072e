/**
 * The contract of the CacheStore: model, options, errors, and the service tag whose members carry the semantics. What a
 * backend implements is in `CacheStoreEncoded`.
 *
 * An **entry** is a JSON value under a key of a tenant, for a time. Losing one is never an error; serving one that was
 * removed is. What a reader may see:
 *
 * - **Fresh**: from a `set`, or a load, until its time to live ends. Every operation sees it.
 * - **Stale**: from then, or from `expire`, for as long as its grace. Only `getOrSet` and `getOrSetMany` serve it,
 *   while one caller refreshes it; to every other operation it is absent.
 * - **Absent**: never set, at its end, lost by the backend (a bound of memory, a crash), or removed by `delete`,
 *   `invalidate`, `clear` or `reset`. Nobody who asks after a removal has returned sees what was there before, whatever
 *   process asks: a load that began before it stores nothing, and its value goes only to those who asked before.
 *
 * Times to live and graces are at least 1 ms (a grace may be 0) and at most 100 years, or `Duration.infinity`; parts of
 * a millisecond round up. They run on the Clock in memory, else on the server's clock; on SQLite, on the machine's.
 *
 * | given | means, on every backend |
 * |---|---|
 * | no `ttl` | 60 seconds |
 * | 1 ms to 100 years | exactly so long; then the entry is absent to every operation, purged or not |
 * | `Duration.infinity` | for ever: until removed, replaced, or lost by the backend |
 * | 0, negative, NaN, longer | `InvalidInput` |
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import { undecodable } from "./cacheStore/decode.js"

import { InvalidInput, type ReadFailure, type ReadOnly, type StoreFailure } from "./Errors.js"
import { exactly } from "./internal/encoding.js"
import type { Json } from "./Json.js"

/**
 * How long an entry lives, and what removes it together with others.
 *
 * @since 0.1.0
 * @category models
 */
export interface SetOptions {
  /** Default 60 seconds. */
  readonly ttl?: Duration.DurationInput | undefined
  /** How long after its time to live, or after `expire`, it may be served as stale. Default 0: never. */
  readonly grace?: Duration.DurationInput | undefined
  /** Names, of this tenant, that `invalidate` and `expire` may be given instead of keys. At most 64. */
  readonly tags?: ReadonlyArray<string> | undefined
}

/**
 * Options of `getOrSet`, which also say how its loader is waited for.
 *
 * @since 0.1.0
 * @category models
 */
export interface LoadOptions extends SetOptions {
  /**
   * Where a stale value could be served: how long to wait for the fresh one before. The load goes on, and its value is
   * there for those who come later. Default 0: stale at once. `Duration.infinity`: stale only if the load fails.
   */
  readonly softTimeout?: Duration.DurationInput | undefined
  /**
   * How long a load may take, waiting for another process's load included. Then it is interrupted, and its callers get
   * the stale value if there is one, else `LoadTimeout`. Default 30 seconds; `Duration.infinity` for never.
   */
  readonly hardTimeout?: Duration.DurationInput | undefined
  /**
   * A fresh value that has no more than this left is served, and refreshed in the background. Default 0: never. What
   * lives for ever is never refreshed so.
   */
  readonly refreshAhead?: Duration.DurationInput | undefined
}

/**
 * Which entries of a tenant to remove: those with these keys, and those with any of these tags. At least one of both.
 *
 * @since 0.1.0
 * @category models
 */
export interface Target {
  /** At most 1,000. */
  readonly keys?: ReadonlyArray<string> | undefined
  /** At most 64. */
  readonly tags?: ReadonlyArray<string> | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface NewEntry {
  readonly key: string
  /** Any JSON value of up to 16 MiB (see `Json.encode` for what is refused). */
  readonly value: unknown
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Listed {
  readonly key: string
  /** What is left of its time to live, or `Duration.infinity`. */
  readonly ttl: Duration.Duration
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Info {
  /** `InMemory`, `Sqlite`, `Pg`, `Redis`. */
  readonly backend: string
  /** Where it is, without secrets. */
  readonly connection: string
  readonly readOnly: boolean
  /** Fresh entries, of all tenants. */
  readonly entries: number
}

/**
 * What a loader gives instead of a value that is not to be stored: its callers get the value, later ones load again.
 *
 * @since 0.1.0
 * @category models
 */
export class DoNotStore<out A> {
  constructor(readonly value: A) {}
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const doNotStore = <A>(value: A): DoNotStore<A> => new DoNotStore(value)

/**
 * A loader took longer than its `hardTimeout`, and there was no stale value to serve. The same call may succeed later.
 *
 * @since 0.1.0
 * @category errors
 */
export class LoadTimeout extends Schema.TaggedError<LoadTimeout>("effect-stores/LoadTimeout")("LoadTimeout", {
  tenantId: Schema.String,
  key: Schema.String,
  timeoutMs: Schema.Number
}) {
  readonly retryable = true
  override get message(): string {
    return `${this.tenantId}/${this.key} was not loaded within ${this.timeoutMs} ms`
  }
}

/**
 * @since 0.1.0
 * @category errors
 */
export type ReadError = InvalidInput | ReadFailure

/**
 * @since 0.1.0
 * @category errors
 */
export type WriteError = ReadOnly | InvalidInput | StoreFailure

/**
 * What `getOrSet` adds to the errors of its loader. A backend that fails is no error here: the loader is asked.
 * `StoreUnavailable` only when the store is closed meanwhile.
 *
 * @since 0.1.0
 * @category errors
 */
export type LoadError = InvalidInput | LoadTimeout | StoreFailure

/**
 * Tenants, keys and tags are texts of 1 to 255 bytes of UTF-8 without NUL. They are data: no character in them means
 * anything, and no tenant's operation reaches another's entries.
 *
 * @since 0.1.0
 * @category models
 */
export interface CacheStoreShape {
  /** The fresh value of the key. A stored null is a value; absence is `Option.none`. */
  readonly get: (tenantId: string, key: string) => Effect.Effect<Option.Option<Json>, ReadError>

  /** The fresh values of those of up to 1,000 keys that have one. One round trip, on a Cluster one per node. */
  readonly getMany: (
    tenantId: string,
    keys: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyMap<string, Json>, ReadError>

  /** Puts the value in the place of whatever is there. A load of the key that is under way will store nothing. */
  readonly set: (tenantId: string, key: string, value: unknown, options?: SetOptions) => Effect.Effect<void, WriteError>

  /** `set` for up to 1,000 different keys; each by itself is atomic. One round trip, on a Cluster one per node. */
  readonly setMany: (
    tenantId: string,
    entries: ReadonlyArray<NewEntry>,
    options?: SetOptions
  ) => Effect.Effect<void, WriteError>

  /**
   * `set` where no fresh value is, and returns whether it did so. One atomic step: of any number of callers in any
   * number of processes one gets true.
   */
  readonly setIfAbsent: (
    tenantId: string,
    key: string,
    value: unknown,
    options?: SetOptions
  ) => Effect.Effect<boolean, WriteError>

  /** Begins a fresh entry's time to live anew; false where there is none. Its grace and tags stay. */
  readonly touch: (tenantId: string, key: string, ttl: Duration.DurationInput) => Effect.Effect<boolean, WriteError>

  /** Removes the entry, stale or fresh. A load of the key that is under way will store nothing. */
  readonly delete: (tenantId: string, key: string) => Effect.Effect<void, WriteError>

  /** `delete` for up to 1,000 keys. */
  readonly deleteMany: (tenantId: string, keys: ReadonlyArray<string>) => Effect.Effect<void, WriteError>

  /**
   * Removes the entries of keys and tags: they are never served again, by anyone who asks after this has returned,
   * grace or not. A load that is under way for one of the keys, or with one of the tags, will store nothing.
   */
  readonly invalidate: (tenantId: string, target: Target) => Effect.Effect<void, WriteError>

  /**
   * Ends the time to live of the entries of keys and tags now: they are stale, for as long as their grace from now on
   * and no longer than they would have been, so they may be served once more while one caller refreshes. A load that is
   * under way for one of the keys, or with one of the tags, will store nothing. What has no grace is removed. Of a tag
   * that is expired again and again, the grace begins at the last time.
   */
  readonly expire: (tenantId: string, target: Target) => Effect.Effect<void, WriteError>

  /**
   * The value of the key, or that of `load`, which is then stored.
   *
   * 1. A fresh value is returned.
   * 2. A stale one is returned after `softTimeout`, at once by default, while step 3 goes on by itself.
   * 3. Else `load` runs, once for all callers of the key in this process; among processes that share the backend, once
   *    while a lock lasts, which is renewed as long as its process lives. The others wait, and look whether the value
   * is
   *    there.
   * 4. The value is encoded as JSON and stored, unless the key or a tag was removed, expired or set since the load
   *    began. If it was, those who had asked before the load began get the value; those who asked later begin again at
   * 1.
   *
   * The load belongs to the store, not to who came first: interrupting one caller does nothing to the others, and
   * interrupting all interrupts it. It runs with the services of the caller that started it; its failure fails all who
   * wait for it, or gives them the stale value where there is one, and the next refresh is tried a second later.
   * `CacheStore.doNotStore(value)` gives the value to the callers and stores nothing.
   *
   * When the backend fails, the loader is asked, and what it gives is not stored; for half a second nobody waits for
   * the backend then (`breaker`). Inside a transaction on the same database nothing is stored and nothing shared: what
   * is loaded there may never be committed. A read-only store stores nothing, and shares a load in the process only.
   */
  readonly getOrSet: <E, R>(
    tenantId: string,
    key: string,
    load: Effect.Effect<unknown, E, R>,
    options?: LoadOptions
  ) => Effect.Effect<Json, E | LoadError, R>

  /**
   * `getOrSet` for up to 1,000 keys: one load of all that is missing, shared key by key with callers of single keys.
   * `load` gets the keys and gives values by key (`doNotStore` for single ones); of a key that it leaves out nothing is
   * stored, and nothing returned.
   */
  readonly getOrSetMany: <E, R>(
    tenantId: string,
    keys: ReadonlyArray<string>,
    load: (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, unknown>, E, R>,
    options?: LoadOptions
  ) => Effect.Effect<ReadonlyMap<string, Json>, E | LoadError, R>

  /**
   * The fresh entries of a tenant whose keys begin with `prefix`, in no order, each once. What comes and goes meanwhile
   * may be missing.
   */
  readonly list: (
    tenantId: string,
    options?: { readonly prefix?: string | undefined }
  ) => Stream.Stream<Listed, ReadError>

  /** How many fresh entries of a tenant have keys that begin with `prefix`. Looks at each, so not for hot paths. */
  readonly count: (
    tenantId: string,
    options?: { readonly prefix?: string | undefined }
  ) => Effect.Effect<number, ReadError>

  /** Removes everything of one tenant, as `invalidate` does. */
  readonly clear: (tenantId: string) => Effect.Effect<void, WriteError>

  /** What this store is, and how much it holds. Counts, so not for hot paths. */
  readonly info: Effect.Effect<Info, ReadFailure>

  /** Removes everything of this store, as `invalidate` does, and nothing else that its backend holds. */
  readonly reset: Effect.Effect<void, ReadOnly | StoreFailure>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class CacheStore extends Context.Tag("effect-stores/CacheStore")<CacheStore, CacheStoreShape>() {}

/**
 * The CacheStore seen through the Schema of one kind of value, as functions that need the store.
 *
 * @since 0.1.0
 * @category schema
 */
export interface TypedCache<A, R> {
  /** What is stored and does not fit the Schema is absent, and counted in `effect_stores_cache_undecodable`. */
  readonly get: (tenantId: string, key: string) => Effect.Effect<Option.Option<A>, ReadError, CacheStore | R>
  readonly set: (
    tenantId: string,
    key: string,
    value: A,
    options?: SetOptions
  ) => Effect.Effect<void, WriteError, CacheStore | R>
  /** What is stored and does not fit is removed and loaded. What the loader gives must fit, else `InvalidInput`. */
  readonly getOrSet: <E, R2>(
    tenantId: string,
    key: string,
    load: Effect.Effect<A | DoNotStore<A>, E, R2>,
    options?: LoadOptions
  ) => Effect.Effect<A, E | LoadError, CacheStore | R | R2>
}

/**
 * Binds a Schema to the store. Its values are encoded by it, so they need not be JSON themselves; fields that it does
 * not know are `InvalidInput`.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { CacheStore } from "effect-stores"
 *
 * const totals = CacheStore.forSchema(Schema.Struct({ total: Schema.Number, at: Schema.Date }))
 *
 * const total = totals.getOrSet("acme", "order/1/total", Effect.succeed({ total: 12, at: new Date(0) }))
 * ```
 *
 * @since 0.1.0
 * @category schema
 */
export const forSchema = <A, I, R>(schema: Schema.Schema<A, I, R>): TypedCache<A, R> => {
  const encodeExactly = exactly(Schema.encode(schema))
  const decodeUnknown = Schema.decodeUnknown(schema)

  const encode = (value: A): Effect.Effect<I, InvalidInput, R> =>
    Effect.mapError(
      encodeExactly(value),
      (cause) => new InvalidInput({ what: "value", why: `does not fit the schema: ${cause.message}` })
    )

  const decode = (value: Json): Effect.Effect<Option.Option<A>, never, R> =>
    Effect.option(Effect.tapError(decodeUnknown(value), () => Metric.increment(undecodable)))

  const encodeLoaded = (loaded: A | DoNotStore<A>): Effect.Effect<I | DoNotStore<I>, InvalidInput, R> =>
    loaded instanceof DoNotStore ? Effect.map(encode(loaded.value), doNotStore) : encode(loaded)

  return {
    get: (tenantId, key) =>
      Effect.flatMap(CacheStore, (store) =>
        Effect.flatMap(store.get(tenantId, key), Option.match({ onNone: () => Effect.succeedNone, onSome: decode }))
      ),

    set: (tenantId, key, value, options) =>
      Effect.flatMap(CacheStore, (store) =>
        Effect.flatMap(encode(value), (encoded) => store.set(tenantId, key, encoded, options))
      ),

    getOrSet: <E, R2>(
      tenantId: string,
      key: string,
      load: Effect.Effect<A | DoNotStore<A>, E, R2>,
      options?: LoadOptions
    ) =>
      Effect.gen(function* () {
        const store = yield* CacheStore
        const once = Effect.flatMap(store.getOrSet(tenantId, key, Effect.flatMap(load, encodeLoaded), options), decode)
        const first = yield* once
        if (Option.isSome(first)) return first.value
        // What cannot be removed now ends by itself, and until then is loaded past.
        yield* Effect.ignore(store.delete(tenantId, key))
        const second = yield* once
        if (Option.isSome(second)) return second.value
        const loaded = yield* load
        return loaded instanceof DoNotStore ? loaded.value : loaded
      })
  }
}
