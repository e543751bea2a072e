/**
 * The step from the CacheStore's port to its public service. Here, once for all backends: input is checked, values
 * become JSON text and back. Loading is in `loads`.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { CacheStoreShape, Listed } from "../CacheStore.js"
import type { InvalidInput } from "../Errors.js"
import { Lifted, withoutKeys } from "../internal/lifted.js"
import { type Pages, pagedStream } from "../internal/pages.js"
import * as Telemetry from "../internal/telemetry.js"
import { checked, refuse } from "../internal/validate.js"
import type { Json } from "../Json.js"
import type { Encoded, EncodedListed, Options } from "./CacheStoreEncoded.js"
import { decode, decodeMany } from "./decode.js"
import * as input from "./input.js"
import * as Loads from "./loads.js"

const lifted = new Lifted<CacheStoreShape, Encoded, Options>("CacheStore")

export const relift = <E, R>(
  service: CacheStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
): Effect.Effect<CacheStoreShape, E | InvalidInput, R | Scope.Scope> =>
  Effect.flatMap(lifted.rewrap(service, wrap), ({ encoded, options }) => lift(encoded, options))

/** The port of a service that was lifted. */
export const encodedOf = (service: CacheStoreShape): Effect.Effect<Encoded, InvalidInput> =>
  Effect.map(lifted.rewrap(service, Effect.succeed), ({ encoded }) => encoded)

/**
 * What those who ask from now on need not wait for: loads that the removal has made void. It ends no load and guards
 * nothing, because what a void load brings is not confirmed, so it may be left out where the removal fails. Not before
 * the removal: a load that begins in between may still see what is about to go.
 */
const andThen = <A, E>(removal: Effect.Effect<A, E>, cut: () => void): Effect.Effect<A, E> =>
  Effect.map(removal, (result) => {
    cut()
    return result
  })

export const lift = (port: Encoded, options: Options): Effect.Effect<CacheStoreShape, never, Scope.Scope> => {
  // A load without a ticket stores nothing.
  const { encoded, look } = withoutKeys("the CacheStore", port, ["set", "setIfAbsent", "begin"])
  return Effect.map(Loads.make(encoded, options), (loads) => {
    const observe = Telemetry.make("CacheStore", options)
    const { atOnce } = encoded.get

    const remove = (tenantId: string, keys: ReadonlyArray<string>) =>
      keys.length === 0 ? Effect.void : andThen(encoded.remove(tenantId, keys), () => loads.cut(tenantId, keys))

    const deleteMany: CacheStoreShape["deleteMany"] = (tenantId, keys) =>
      observe.write("deleteMany", () =>
        checked(
          () => ({ tenantId: input.tenant(tenantId), keys: input.manyKeys(keys) }),
          ({ keys, tenantId }) => remove(tenantId, keys)
        )
      )

    /** Tags first: what is loaded for a key in between has the new generation. */
    const removal = (
      name: "invalidate" | "expire",
      byTags: Encoded["invalidateTags"],
      byKeys: Encoded["remove"]
    ): CacheStoreShape["invalidate"] => {
      return (tenantId, target) =>
        observe.write(name, () =>
          checked(
            () => input.target(tenantId, target),
            ({ keys, tags, tenantId }) =>
              andThen(
                Effect.zipRight(
                  tags.length === 0 ? Effect.void : byTags(tenantId, tags),
                  keys.length === 0 ? Effect.void : byKeys(tenantId, keys)
                ),
                () => {
                  loads.cut(tenantId, keys)
                  loads.cutTags(tenantId, tags)
                }
              )
          )
        )
    }

    const set = (operation: string, check: () => ReturnType<typeof input.writes>) =>
      observe.write(operation, () =>
        checked(check, (writes) =>
          writes[0] === undefined
            ? Effect.void
            : andThen(encoded.set(writes), () => {
                for (const { key, tenantId } of writes) loads.cut(tenantId, [key])
              })
        )
      )

    const store: CacheStoreShape = {
      get: (tenantId, key) =>
        observe.effect("get", (nowMs) =>
          checked(
            () => input.place(tenantId, key),
            (place) =>
              atOnce === undefined
                ? Effect.flatMap(encoded.get(place, false), (entry) => Effect.succeed(decode(entry)))
                : Effect.succeed(decode(atOnce(place, nowMs)))
          )
        ),

      getMany: (tenantId, keys) =>
        observe.effect("getMany", () =>
          checked(
            () => ({ tenantId: input.tenant(tenantId), keys: input.manyKeys(keys) }),
            ({ keys, tenantId }) =>
              keys.length === 0
                ? Effect.succeed(new Map<string, Json>())
                : Effect.map(encoded.getMany(tenantId, keys, false), (entries) => decodeMany(keys, entries))
          )
        ),

      set: (tenantId, key, value, setOptions) =>
        set("set", () => [input.write(input.place(tenantId, key), value, "value", input.life(setOptions))]),

      setMany: (tenantId, entries, setOptions) => set("setMany", () => input.writes(tenantId, entries, setOptions)),

      setIfAbsent: (tenantId, key, value, setOptions) =>
        observe.write("setIfAbsent", () =>
          checked(
            () => input.write(input.place(tenantId, key), value, "value", input.life(setOptions)),
            (write) => andThen(encoded.setIfAbsent(write), () => loads.cut(write.tenantId, [write.key]))
          )
        ),

      touch: (tenantId, key, ttl) =>
        observe.write("touch", () =>
          checked(
            () => ({ place: input.place(tenantId, key), ttlMs: input.time(ttl, "ttl", 1) }),
            ({ place, ttlMs }) => encoded.touch(place, ttlMs)
          )
        ),

      delete: (tenantId, key) =>
        observe.write("delete", () =>
          checked(
            () => input.place(tenantId, key),
            ({ key, tenantId }) => remove(tenantId, [key])
          )
        ),

      deleteMany,

      invalidate: removal("invalidate", encoded.invalidateTags, encoded.remove),

      expire: removal("expire", encoded.expireTags, encoded.expire),

      getOrSet: (tenantId, key, load, loadOptions) =>
        observe.effect("getOrSet", (nowMs) =>
          checked(
            () => ({
              place: input.place(tenantId, key),
              loading: input.loading(loadOptions),
              load: Effect.isEffect(load) ? load : refuse("load", "must be an Effect")
            }),
            ({ load, loading, place }) => loads.getOrSet(place, load, loading, nowMs)
          )
        ),

      getOrSetMany: (tenantId, keys, load, loadOptions) =>
        observe.effect("getOrSetMany", () =>
          checked(
            () => ({
              tenantId: input.tenant(tenantId),
              keys: input.manyKeys(keys),
              loading: input.loading(loadOptions),
              load: input.loaderOfMany(load)
            }),
            ({ keys, load, loading, tenantId }) => loads.getOrSetMany(tenantId, keys, load, loading)
          )
        ),

      list: (tenantId, listOptions) =>
        observe.stream("list", () =>
          Stream.map(
            pagedStream(
              checked(
                () => ({ tenantId: input.tenant(tenantId), prefix: input.prefix(listOptions) }),
                ({ prefix, tenantId }): Pages<EncodedListed, Effect.Effect.Error<ReturnType<typeof encoded.list>>> =>
                  encoded.list(tenantId, prefix)
              )
            ),
            ({ freshMs, key }): Listed => ({ key, ttl: Duration.millis(freshMs) })
          )
        ),

      count: (tenantId, countOptions) =>
        observe.effect("count", () =>
          checked(
            () => ({ tenantId: input.tenant(tenantId), prefix: input.prefix(countOptions) }),
            ({ prefix, tenantId }) => encoded.count(tenantId, prefix)
          )
        ),

      clear: (tenantId) =>
        observe.write("clear", () =>
          checked(
            () => input.tenant(tenantId),
            (tenantId) => andThen(encoded.reset(tenantId), () => loads.cutTenant(tenantId))
          )
        ),

      info: observe.effect("info", () =>
        Effect.map(encoded.info, (info) => ({ ...info, readOnly: options.readOnly ?? false }))
      ),

      reset: observe.write("reset", () => andThen(encoded.reset(null), () => loads.cutTenant(null)))
    }
    return lifted.add(store, port, options, look)
  })
}
