/**
 * What the bench of the CacheStore calls: ours through an Effect runtime, the drivers as their users call them, and
 * bentocache where it is installed.
 */
import { Effect, type Layer, ManagedRuntime } from "effect"
import { CacheStore } from "effect-stores"
import { effectSide, promiseSide, type Side, type Workload } from "../harness.js"
import { areInstalled, load as loadInstalled, versionsOf } from "../installed.js"

export const tenant = "tenant"
export const keys = Array.from({ length: 100 }, (_, i) => `key-${i}`)
export const value = { id: "order-1", total: 12.5, lines: [1, 2, 3], note: "n".repeat(200) }
export const text = JSON.stringify(value)

const inARow = 1_000

export interface Raw {
  readonly name: string
  readonly get?: (() => Promise<unknown>) | undefined
  readonly set?: (() => Promise<unknown>) | undefined
  readonly getMany?: (() => Promise<unknown>) | undefined
  readonly getOrSet?: (() => Promise<unknown>) | undefined
}

export type Operation = "get" | "set" | "getMany" | "getOrSet"

/** The ratio to a side that is to be reached: by side, operation and callers. */
export type Bars = (side: string, operation: Operation, concurrency: number) => number | undefined

export const workloadsOf = (
  layer: Layer.Layer<CacheStore.CacheStore, unknown>,
  takesTurns: boolean,
  raws: ReadonlyArray<Raw>,
  barsOf: Bars,
  leastOfGet?: number
): { readonly workloads: ReadonlyArray<Workload>; readonly close: () => Promise<void> } => {
  const runtime = ManagedRuntime.make(layer)
  const use = (body: (cache: CacheStore.CacheStoreShape) => Effect.Effect<unknown, unknown>) =>
    Effect.flatMap(CacheStore.CacheStore, body)
  const load = Effect.succeed(value)
  const ours: Readonly<Record<Operation, Effect.Effect<unknown, unknown, CacheStore.CacheStore>>> = {
    get: use((cache) => cache.get(tenant, "key-1")),
    set: use((cache) => cache.set(tenant, "key-1", value, { ttl: 60_000 })),
    getMany: use((cache) => cache.getMany(tenant, keys)),
    getOrSet: use((cache) => cache.getOrSet(tenant, "key-1", load, { ttl: 60_000 }))
  }
  const prepare = async () => {
    await runtime.runPromise(
      use((cache) =>
        cache.setMany(
          tenant,
          keys.map((key) => ({ key, value })),
          { ttl: "1 hour" }
        )
      )
    )
  }
  const workloads = ([1, 64, 512] as const).flatMap((concurrency) =>
    (["get", "set", "getMany", "getOrSet"] as const).map((operation): Workload => {
      const sides: Array<Side> = []
      const bars: Record<string, number> = {}
      for (const raw of raws) {
        const body = raw[operation]
        if (body === undefined) continue
        sides.push(promiseSide(raw.name, body))
        const bar = barsOf(raw.name, operation, concurrency)
        if (bar !== undefined) bars[raw.name] = bar
      }
      return {
        name: operation === "getMany" ? "getMany of 100" : operation === "getOrSet" ? "getOrSet, a hit" : operation,
        concurrency,
        events: operation === "getMany" ? keys.length : 1,
        prepare,
        ours: effectSide("effect-stores", runtime, takesTurns, () => ours[operation]),
        raw: sides,
        bars
      }
    })
  )
  /** Without the steps to and from each call: what a program that does much else in its fiber pays. */
  const rowsOf = (operation: "get" | "getOrSet"): Workload => ({
    least: operation === "get" ? leastOfGet : undefined,
    name: `${operation === "get" ? operation : "getOrSet, a hit"}, ${inARow} in a row`,
    concurrency: 1,
    events: inARow,
    prepare,
    ours: effectSide("effect-stores", runtime, true, () =>
      use((cache) => {
        let i = 0
        return Effect.whileLoop({
          while: () => i < inARow,
          body: (): Effect.Effect<unknown, unknown> =>
            operation === "get" ? cache.get(tenant, "key-1") : cache.getOrSet(tenant, "key-1", load, { ttl: 60_000 }),
          step: () => {
            i++
          }
        })
      })
    ),
    raw: raws.flatMap(({ name, [operation]: body }) =>
      body === undefined
        ? []
        : [
            promiseSide(name, async () => {
              for (let i = 0; i < inARow; i++) await body()
            })
          ]
    ),
    bars: Object.fromEntries(
      raws.flatMap(({ name }) => {
        const bar = barsOf(name, operation, 1)
        return bar === undefined ? [] : [[name, bar]]
      })
    )
  })
  return {
    workloads: takesTurns ? [...workloads, rowsOf("get"), rowsOf("getOrSet")] : workloads,
    close: () => runtime.dispose()
  }
}

interface Bento {
  readonly getOrSet: (options: { key: string; ttl: string; factory: () => unknown }) => Promise<unknown>
  readonly get: (options: { key: string }) => Promise<unknown>
  readonly set: (options: { key: string; value: unknown; ttl: string }) => Promise<unknown>
  readonly disconnectAll: () => Promise<void>
}

interface BentoModules {
  readonly BentoCache: new (options: object) => Bento
  readonly bentostore: () => { useL1Layer: (driver: unknown) => unknown; useL2Layer: (driver: unknown) => unknown }
  readonly memoryDriver: (options: object) => unknown
  readonly redisDriver: (options: object) => unknown
}

/** Undefined where it is not installed. */
export const bentocache = async (
  redisPort: number | undefined
): Promise<(Raw & { facts: Readonly<Record<string, string>>; close: () => Promise<void> }) | undefined> => {
  if (!areInstalled()) return undefined
  const { BentoCache, bentostore } = await loadInstalled<Pick<BentoModules, "BentoCache" | "bentostore">>("bentocache")
  const { memoryDriver } = await loadInstalled<Pick<BentoModules, "memoryDriver">>("bentocache/drivers/memory")
  const { redisDriver } = await loadInstalled<Pick<BentoModules, "redisDriver">>("bentocache/drivers/redis")
  const layered =
    redisPort === undefined
      ? bentostore().useL1Layer(memoryDriver({ maxItems: 100_000 }))
      : bentostore().useL2Layer(redisDriver({ connection: { host: "127.0.0.1", port: redisPort } }))
  const bento = new BentoCache({ default: "cache", stores: { cache: layered } })
  return {
    name: "bentocache",
    facts: versionsOf("bentocache"),
    get: () => bento.get({ key: "key-1" }),
    set: () => bento.set({ key: "key-1", value, ttl: "60s" }),
    getOrSet: () => bento.getOrSet({ key: "key-1", ttl: "60s", factory: () => value }),
    close: () => bento.disconnectAll()
  }
}
