/**
 * What every store operation reports: a counter, a span if a tracer can see it, and conflicts. And what every pool
 * reports.
 *
 * A span costs 7 to 18 µs in Effect 3, as much as some reads on SQLite. With the default tracer and no parent span
 * nobody could ever see it, so it is left out.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { ReadOnly } from "../Errors.js"

const operations = MetricKey.counter("effect_stores_operations", {
  description: "Operations started, by store and operation",
  incremental: true
})

const conflicts = MetricKey.counter("effect_stores_conflicts", {
  description: "Writes refused with VersionConflict, by store",
  incremental: true
})

const defaultTracer = Context.get(DefaultServices.liveServices, Tracer.Tracer)

const isVisible = ({ currentSpan, currentTracer }: Fiber.RuntimeFiber<unknown, unknown>): boolean =>
  currentSpan !== undefined || currentTracer !== defaultTracer

export interface Observer {
  /** Wraps an operation. `body` receives the time of the fiber's Clock. */
  readonly effect: <A, E, R>(name: string, body: (nowMs: number) => Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** The same for one that writes. A read-only store refuses it before it checks anything. */
  readonly write: <A, E, R>(
    name: string,
    body: (nowMs: number) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | ReadOnly, R>
  /** Wraps a stream. It is one operation and one span from its first page to its end, however it ends. */
  readonly stream: <A, E, R>(name: string, self: Stream.Stream<A, E, R>) => Stream.Stream<A, E, R>
  /** Counts a write that is refused with `VersionConflict`. */
  readonly conflicted: () => void
}

/** `store` names the contract (`EventStore`), `backend` what it runs on, in OpenTelemetry's words (`postgresql`). */
export const make = (store: string, backend: string, readOnly = false): Observer => {
  const counters = new Map<string, Metric.Metric.Counter<number>>()
  // Labels are in the key: those of `Metric.tagged` are merged at every update, which costs 20 times the update itself.
  const label = MetricLabel.make("store", store)
  const conflict = Metric.fromMetricKey(MetricKey.taggedWithLabels(conflicts, [label]))
  const count = (name: string): void => {
    let counter = counters.get(name)
    if (counter === undefined) {
      const labels = [label, MetricLabel.make("operation", name)]
      counter = Metric.fromMetricKey(MetricKey.taggedWithLabels(operations, labels))
      counters.set(name, counter)
    }
    counter.unsafeUpdate(1, [])
  }
  const spanOptions = (name: string): Tracer.SpanOptions => ({
    kind: "client",
    attributes: { "db.system.name": backend, "db.operation.name": name }
  })
  const effect: Observer["effect"] = (name, body) =>
    Effect.withFiberRuntime((fiber) => {
      count(name)
      const self = body(Context.get(fiber.currentDefaultServices, Clock.Clock).unsafeCurrentTimeMillis())
      return isVisible(fiber) ? Effect.withSpan(self, `${store}.${name}`, spanOptions(name)) : self
    })
  return {
    effect,
    write: (name, body) => (readOnly ? Effect.fail(new ReadOnly({ operation: name })) : effect(name, body)),
    stream: (name, self) =>
      // Not unwrapped from an effect: that would add a layer of Stream, which costs as much as reading ten events.
      Stream.suspend(() => {
        count(name)
        return Option.exists(Fiber.getCurrentFiber(), isVisible)
          ? Stream.withSpan(self, `${store}.${name}`, spanOptions(name))
          : self
      }),
    conflicted: () => conflict.unsafeUpdate(1, [])
  }
}

const pool = {
  open: MetricKey.gauge("effect_stores_pool_open", { description: "Connections open, by pool and database" }),
  idle: MetricKey.gauge("effect_stores_pool_idle", {
    description: "Connections open and unused, by pool and database"
  }),
  waiting: MetricKey.gauge("effect_stores_pool_waiting", {
    description: "Operations that wait for a connection, by pool and database"
  }),
  waits: MetricKey.histogram(
    "effect_stores_pool_wait_ms",
    MetricBoundaries.exponential({ start: 1, factor: 2, count: 16 }),
    "Milliseconds that operations waited which got no connection at once, by pool and database"
  )
}

/** How a pool reports itself. Those of the same name on the same database add up. */
export class PoolMeter {
  private readonly gauges
  private readonly waits: Metric.Metric.Histogram<number> | undefined
  private readonly reported = { open: 0, idle: 0, waiting: 0 }

  /** `name` is a backend and a store (`pg.EventStore`). `waits`: operations of this pool wait for connections. */
  constructor(name: string, database: string, waits = true) {
    const labels = [MetricLabel.make("pool", name), MetricLabel.make("database", database)]
    const gauge = (key: MetricKey.MetricKey.Gauge<number>) =>
      Metric.fromMetricKey(MetricKey.taggedWithLabels(key, labels))
    this.gauges = { open: gauge(pool.open), idle: gauge(pool.idle), waiting: waits ? gauge(pool.waiting) : undefined }
    // A pool is seen from its opening on, also one that closes before its first report.
    for (const each of Object.values(this.gauges)) each?.unsafeModify(0, [])
    this.waits = waits ? Metric.fromMetricKey(MetricKey.taggedWithLabels(pool.waits, labels)) : undefined
  }

  report({
    idle,
    open,
    waiting = 0
  }: {
    readonly open: number
    readonly idle: number
    readonly waiting?: number
  }): void {
    const now = { open, idle, waiting }
    for (const key of ["open", "idle", "waiting"] as const) {
      if (now[key] !== this.reported[key]) this.gauges[key]?.unsafeModify(now[key] - this.reported[key], [])
      this.reported[key] = now[key]
    }
  }

  waited(ms: number): void {
    this.waits?.unsafeUpdate(ms, [])
  }
}
