/**
 * What the tests of pools share: the metrics that a pool reports, and connections that other applications hold.
 */
import { Effect, Metric, MetricState } from "effect"
import { Client } from "pg"

/** What all pools of this name report together. */
export interface Reported {
  readonly open: number
  readonly idle: number
  readonly waiting: number
  /** Operations that have waited. */
  readonly waits: number
  readonly longestMs: number
}

export const reported = (pool: string, database?: string): Effect.Effect<Reported> =>
  Effect.map(Metric.snapshot, (pairs) => {
    const found = { open: 0, idle: 0, waiting: 0, waits: 0, longestMs: 0 }
    for (const { metricKey, metricState } of pairs) {
      const label = (key: string) => metricKey.tags.find((tag) => tag.key === key)?.value
      if (label("pool") !== pool || (database !== undefined && label("database") !== database)) continue
      const [, name] = /^effect_stores_pool_(open|idle|waiting)$/.exec(metricKey.name) ?? []
      if (name !== undefined && MetricState.isGaugeState(metricState)) {
        found[name as "open" | "idle" | "waiting"] += Number(metricState.value)
      }
      if (metricKey.name === "effect_stores_pool_wait_ms" && MetricState.isHistogramState(metricState)) {
        found.waits += metricState.count
        found.longestMs = Math.max(found.longestMs, metricState.max)
      }
    }
    return found
  })

/** Connections of another application to a server, until the scope closes. */
export const held = (url: string, count: number) =>
  Effect.acquireRelease(
    Effect.promise(() =>
      Promise.all(
        Array.from({ length: count }, async () => {
          const client = new Client({ connectionString: url, application_name: "another" })
          client.on("error", () => {})
          await client.connect()
          return client
        })
      )
    ),
    (clients) => Effect.promise(() => Promise.allSettled(clients.map((client) => client.end())))
  )

export const numbers = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, i) => i)
