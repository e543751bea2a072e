/**
 * Keys behind a provider of keys, such as a key management service: a ring of wrapped keys, each unwrapped when it is
 * first needed and forgotten after a while.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Redacted from "effect/Redacted"
import { type CryptoError, KeyDisabled, KeyProviderError } from "../../CryptoError.js"
import type { InvalidInput } from "../../Errors.js"
import { checked, describe, integer, refuse } from "../../internal/validate.js"
import type { FindKey } from "../formats/envelope.js"
import { isWeak, type Key, type KeyStatus, keyBytes, make as makeKey } from "./key.js"
import { checkedKeys, finder, type KeyRing } from "./ring.js"

/**
 * What a provider of keys does, in the shape of a key management service. `context` is bound to what is wrapped: other
 * context does not unwrap. Each may be interrupted and be called concurrently.
 *
 * @since 0.1.0
 * @category models
 */
export interface KeyProviderShape {
  /** A new key of 32 bytes, and the same wrapped. */
  readonly generate: (
    context: string
  ) => Effect.Effect<{ readonly key: Redacted.Redacted<Uint8Array>; readonly wrapped: Uint8Array }, KeyProviderError>
  readonly wrap: (key: Redacted.Redacted<Uint8Array>, context: string) => Effect.Effect<Uint8Array, KeyProviderError>
  readonly unwrap: (
    wrapped: Uint8Array,
    context: string
  ) => Effect.Effect<Redacted.Redacted<Uint8Array>, KeyProviderError>
  /** Wraps the same key anew, under the provider's current key. */
  readonly rewrap: (wrapped: Uint8Array, context: string) => Effect.Effect<Uint8Array, KeyProviderError>
  readonly describe: Effect.Effect<KeyProviderInfo, KeyProviderError>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface KeyProviderInfo {
  readonly provider: string
  /** What the provider calls its current key, its version included. */
  readonly key: string
  /** Whether `rewrap` happens inside the provider; else the key is unwrapped and wrapped again in this process. */
  readonly nativeRewrap: boolean
}

/**
 * @since 0.1.0
 * @category tags
 */
export class KeyProvider extends Context.Tag("effect-stores/KeyProvider")<KeyProvider, KeyProviderShape>() {}

/**
 * How long unwrapped keys stay in memory, and how many. A key that the provider has disabled is in use for `lifetime`
 * at most.
 *
 * @since 0.1.0
 * @category models
 */
export interface KeyCacheOptions {
  /** Default 5 minutes. */
  readonly lifetime?: Duration.DurationInput | undefined
  /** Default 1,000 keys; beyond that the one used longest ago goes. */
  readonly size?: number | undefined
  /** How often a key is used before it is unwrapped again. Default 2^32. */
  readonly uses?: number | undefined
  /** How long the provider may take to unwrap a key; then it is `unavailable`, and retryable. Default 10 seconds. */
  readonly timeout?: Duration.DurationInput | undefined
}

interface Entry {
  readonly key: Key
  readonly untilMs: number
  usesLeft: number
}

export interface KeyCache {
  readonly timeoutMs: number
  /** At hand, and counted as one use. */
  readonly peek: (id: string, nowMs: number) => Key | undefined
  /** One flight per id, which goes on when who began it is interrupted. A failure is not kept. */
  readonly get: (id: string, load: Effect.Effect<Key, CryptoError>) => Effect.Effect<Key, CryptoError>
  readonly forget: (id: string) => void
}

const defaults = { lifetimeMs: 300_000, size: 1_000, uses: 2 ** 32, timeoutMs: 10_000 }

const milliseconds = (value: unknown, what: string, otherwise: number): number => {
  if (value === undefined) return otherwise
  const decoded = Duration.decodeUnknown(value)
  if (decoded._tag === "None") return refuse(what, `must be a duration, not ${describe(value)}`)
  const ms = Duration.toMillis(decoded.value)
  return ms > 0 ? ms : refuse(what, "must be greater than zero")
}

export const makeCache = (options: KeyCacheOptions = {}): Effect.Effect<KeyCache, InvalidInput> =>
  checked(
    () => {
      const { lifetime, size = defaults.size, timeout, uses = defaults.uses } = options
      return {
        lifetimeMs: milliseconds(lifetime, "cache.lifetime", defaults.lifetimeMs),
        size: integer(size, "cache.size", 1),
        uses: integer(uses, "cache.uses", 1),
        timeoutMs: milliseconds(timeout, "cache.timeout", defaults.timeoutMs)
      }
    },
    (limits) => Effect.succeed(cacheOf(limits))
  )

interface CacheLimits {
  readonly lifetimeMs: number
  readonly size: number
  readonly uses: number
  readonly timeoutMs: number
}

const cacheOf = ({ lifetimeMs, size, timeoutMs, uses }: CacheLimits): KeyCache => {
  // In order of use, the oldest first.
  const entries = new Map<string, Entry>()
  const flights = new Map<string, Deferred.Deferred<Key, CryptoError>>()

  const peek = (id: string, nowMs: number): Key | undefined => {
    const entry = entries.get(id)
    if (entry === undefined) return undefined
    entries.delete(id)
    if (entry.untilMs <= nowMs || entry.usesLeft <= 0) return undefined
    entry.usesLeft--
    entries.set(id, entry)
    return entry.key
  }

  return {
    timeoutMs,
    peek,
    get: (id, load) =>
      Effect.clockWith((clock) =>
        Effect.suspend(() => {
          const found = peek(id, clock.unsafeCurrentTimeMillis())
          if (found !== undefined) return Effect.succeed(found)
          const flying = flights.get(id)
          if (flying !== undefined) return Deferred.await(flying)
          const flight = Deferred.unsafeMake<Key, CryptoError>(FiberId.none)
          flights.set(id, flight)
          const landed = (exit: Exit.Exit<Key, CryptoError>) =>
            Effect.suspend(() => {
              // Else it was forgotten while it was fetched: who asked before gets it, and it is not kept.
              const isCurrent = flights.get(id) === flight
              if (isCurrent) flights.delete(id)
              if (isCurrent && Exit.isSuccess(exit)) {
                entries.set(id, {
                  key: exit.value,
                  untilMs: clock.unsafeCurrentTimeMillis() + lifetimeMs,
                  usesLeft: uses - 1
                })
                for (const oldest of entries.keys()) {
                  if (entries.size <= size) break
                  entries.delete(oldest)
                }
              }
              return Deferred.done(flight, exit)
            })
          return Effect.zipRight(Effect.forkDaemon(Effect.flatMap(Effect.exit(load), landed)), Deferred.await(flight))
        })
      ),
    forget: (id) => {
      entries.delete(id)
      flights.delete(id)
    }
  }
}

/**
 * A key of a ring, wrapped by the provider for the context `ring key <id>`.
 *
 * @since 0.1.0
 * @category models
 */
export interface WrappedKeyOptions {
  readonly id: string
  /** base64url. */
  readonly wrapped: string
  readonly status?: KeyStatus | undefined
}

/**
 * What the keys of a ring are bound to when they are wrapped.
 *
 * @since 0.1.0
 * @category keys
 */
export const wrapContext = (id: string): string => `effect-stores ring key ${id}`

/** Unwraps and checks: what a provider gives may be rubbish, or never come. */
export const unwrapped = (
  provider: KeyProviderShape,
  id: string,
  wrapped: Uint8Array,
  context: string,
  timeoutMs: number
): Effect.Effect<Key, CryptoError> =>
  Effect.suspend(() => provider.unwrap(wrapped, context)).pipe(
    // Nor is one waited for that cannot be interrupted.
    Effect.disconnect,
    Effect.timeoutFail({
      duration: timeoutMs,
      onTimeout: () =>
        new KeyProviderError({
          operation: "unwrap",
          reason: "unavailable",
          detail: `it has not given the key ${id} within ${timeoutMs} ms`
        })
    }),
    Effect.mapError((error) =>
      error.reason === "disabled" ? new KeyDisabled({ keyId: id, place: "its provider" }) : error
    ),
    Effect.flatMap((redacted) => {
      const bytes = Redacted.isRedacted(redacted) ? Redacted.value(redacted) : undefined
      if (!(bytes instanceof Uint8Array) || bytes.length !== keyBytes || isWeak(bytes)) {
        const detail = `what it gave for the key ${id} is no key of ${keyBytes} bytes`
        return Effect.fail(new KeyProviderError({ operation: "unwrap", reason: "invalidCiphertext", detail }))
      }
      return Effect.sync(() => makeKey(id, bytes))
    })
  )

export const makeRing = (
  provider: KeyProviderShape,
  options: { readonly keys: ReadonlyArray<WrappedKeyOptions>; readonly primary: string },
  cacheOptions: KeyCacheOptions | undefined
): Effect.Effect<KeyRing, InvalidInput> =>
  Effect.flatMap(makeCache(cacheOptions), (cache) =>
    checked(
      () => {
        const infos = checkedKeys(options.keys, options.primary, "wrapped")
        return { infos, wrapped: new Map(infos.map(({ given, id }) => [id, wrappedOf(given, id)])) }
      },
      ({ infos, wrapped }) => {
        const get = (id: string) =>
          cache.get(id, unwrapped(provider, id, wrapped.get(id) as Uint8Array, wrapContext(id), cache.timeoutMs))
        const loadable = new Set(infos.filter(({ status }) => status !== "disabled").map(({ id }) => id))
        return Effect.succeed<KeyRing>({
          keys: infos.map(({ id, primary, status }) => ({ id, primary, status })),
          primary: get(options.primary),
          finding: (ids) => {
            const needed = [...ids].filter((id) => loadable.has(id))
            const got = Effect.forEach(needed, (id) => Effect.either(get(id)), { concurrency: 16 })
            return Effect.map(got, (keys): FindKey => {
              const loaded = new Map(needed.map((id, i) => [id, keys[i]]))
              // Only what was asked for is looked up.
              return finder(infos, (keyId, place) => {
                const key = loaded.get(keyId) ?? Either.left(new KeyDisabled({ keyId, place: place() }))
                return Either.isRight(key) ? key.right : placed(key.left, place())
              })
            })
          }
        })
      }
    )
  )

/** Where the key was needed, which is not known while it is fetched. */
const placed = (error: CryptoError, place: string): CryptoError => {
  if (error._tag === "KeyDisabled") return new KeyDisabled({ keyId: error.keyId, place })
  if (error._tag !== "KeyProviderError") return error
  const { detail, operation, reason } = error
  return new KeyProviderError({ operation, reason, detail: `${detail}, for ${place}` })
}

const wrappedOf = (value: unknown, id: string): Uint8Array =>
  typeof value === "string" && /^[A-Za-z0-9_-]+$/.test(value)
    ? Buffer.from(value, "base64url")
    : refuse(`the wrapped key ${id}`, "must be base64url")
