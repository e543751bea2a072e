/**
 * What the CacheStore's tests share: tenants of their own instead of cleaning up, small readers, and loaders that are
 * held.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type { CacheStore, CacheStoreShape } from "../../CacheStore.js"
import type { Test as AnyTest } from "../suite.js"
import { collect } from "../suite.js"

export type Test = AnyTest<CacheStore>

export const freshTenant = (): string => `tenant-${randomUUID()}`

export const hour = Duration.hours(1)

/** Undefined for absent. */
export const valueOf = (cache: CacheStoreShape, tenantId: string, key: string) =>
  Effect.map(cache.get(tenantId, key), Option.getOrUndefined)

export const assertAbsent = (cache: CacheStoreShape, tenantId: string, key: string) =>
  Effect.map(cache.get(tenantId, key), (found) => assert.ok(Option.isNone(found), `${key} is there`))

export const keysOf = (cache: CacheStoreShape, tenantId: string, prefix?: string) =>
  Effect.map(collect(cache.list(tenantId, { prefix })), (listed) => listed.map(({ key }) => key).sort())

/** A loader that begins and then waits until it is let go. */
export interface Held {
  readonly load: Effect.Effect<unknown>
  readonly started: Effect.Effect<void>
  readonly release: (value: unknown) => Effect.Effect<void>
  /** How often it was begun, and how often interrupted. */
  loads: number
  interrupts: number
}

export const held = (): Effect.Effect<Held> =>
  Effect.gen(function* () {
    const started = yield* Deferred.make<void>()
    const value = yield* Deferred.make<unknown>()
    const self: Held = {
      load: Effect.suspend(() => {
        self.loads++
        return Effect.zipRight(Deferred.succeed(started, undefined), Deferred.await(value))
      }).pipe(
        Effect.onInterrupt(() =>
          Effect.sync(() => {
            self.interrupts++
          })
        )
      ),
      started: Deferred.await(started),
      release: (given) => Effect.asVoid(Deferred.succeed(value, given)),
      loads: 0,
      interrupts: 0
    }
    return self
  })

const reads = Metric.counter("effect_stores_cache_reads", {
  description: "Values asked for, by what was found",
  incremental: true
})
const misses = Metric.tagged(reads, "outcome", "miss")

/**
 * Forks callers, and waits until each of them has looked at the cache in vain, and so has joined a load, or started
 * one.
 */
export const joined = <A, E, R>(callers: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.gen(function* () {
    const before = (yield* Metric.value(misses)).count
    const fibers = yield* Effect.forEach(callers, Effect.fork)
    yield* eventually(
      "callers that have joined",
      Effect.map(Metric.value(misses), ({ count }) => count >= before + callers.length)
    )
    // From the look to the joining there is no more than a turn.
    yield* Effect.sleep(5)
    return fibers
  })

/** For what must not run. */
export const unexpected: Effect.Effect<never> = Effect.dieMessage("this must not be loaded")

/** Waits, for a minute and a half at most, until it holds: of what goes on in the background. */
export const eventually = <E, R>(what: string, holds: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> => {
  const deadline = Date.now() + 90_000
  const look: Effect.Effect<void, E, R> = Effect.flatMap(holds, (is) => {
    if (is) return Effect.void
    assert.ok(Date.now() < deadline, `in vain: ${what}`)
    return Effect.delay(
      Effect.suspend(() => look),
      5
    )
  })
  return look
}
