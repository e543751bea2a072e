/**
 * What every store operation reports: a counter, a span if a tracer can see it, and conflicts. And what every pool
 * reports. docs/telemetry.md lists all of it.
 *
 * A span costs several µs in Effect 3, as much as some reads on SQLite. With the default tracer and no parent span
 * nobody could ever see it, so it is left out, and with it all that it would say.
 */
import * as Cause from "effect/Cause"
import type * as Chunk from "effect/Chunk"
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
import type { Location } from "../Trace.js"

const operations = MetricKey.counter("effect_stores_operations", {
  description: "Operations started, by store and operation",
  incremental: true
})

const conflicts = MetricKey.counter("effect_stores_conflicts", {
  description: "Writes refused with VersionConflict, by store",
  incremental: true
})

const defaultTracer = Context.get(DefaultServices.liveServices, Tracer.Tracer)

type Seen = Pick<Fiber.RuntimeFiber<unknown, unknown>, "currentSpan" | "currentTracer">

const isVisible = ({ currentSpan, currentTracer }: Seen): boolean =>
  currentSpan !== undefined || currentTracer !== defaultTracer

/** The span of an operation, for what is its own to say; undefined when nobody would see it. */
export type Span = Tracer.Span | undefined

export interface Observer {
  /** Wraps an operation. `body` receives the time of the fiber's Clock. */
  readonly effect: <A, E, R>(
    name: string,
    body: (nowMs: number, span: Span) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R>
  /** The same for one that writes. A read-only store refuses it before it checks anything. */
  readonly write: <A, E, R>(
    name: string,
    body: (nowMs: number, span: Span) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | ReadOnly, R>
  /**
   * Wraps a stream. It is one operation and one span from its first page to its end, however it ends. `rowsOf`: how
   * many records an item stands for; without it, one.
   */
  readonly stream: <A, E, R>(
    name: string,
    body: (span: Span) => Stream.Stream<A, E, R>,
    rowsOf?: (item: A) => number
  ) => Stream.Stream<A, E, R>
  /** Counts a write that is refused with `VersionConflict`. */
  readonly conflicted: () => void
}

/** What a lift knows of where it is: `system` is the backend in OpenTelemetry's words (`postgresql`). */
export interface Lifting extends Location {
  readonly system: string
  readonly readOnly?: boolean | undefined
}

/** `store` names the contract (`EventStore`). */
export const make = (store: string, { readOnly = false, ...where }: Lifting): Observer => {
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
  const spanOptions = spanOptionsAt(where)
  const effect: Observer["effect"] = (name, body) =>
    Effect.withFiberRuntime((fiber) => {
      count(name)
      const nowMs = Context.get(fiber.currentDefaultServices, Clock.Clock).unsafeCurrentTimeMillis()
      return isVisible(fiber)
        ? spanned(`${store}.${name}`, spanOptions(name), (span) => body(nowMs, span))
        : body(nowMs, undefined)
    })
  return {
    effect,
    write: (name, body) => (readOnly ? Effect.fail(new ReadOnly({ operation: name })) : effect(name, body)),
    stream: (name, body, rowsOf) =>
      // Not unwrapped from an effect: that would add a layer of Stream, which costs as much as reading ten events.
      Stream.suspend(() => {
        count(name)
        return Option.exists(Fiber.getCurrentFiber(), isVisible)
          ? spannedStream(`${store}.${name}`, spanOptions(name), body, rowsOf)
          : body(undefined)
      }),
    conflicted: () => conflict.unsafeUpdate(1, [])
  }
}

/** Where in our code a span is made says nothing to its reader, and looking it up costs. */
const captureStackTrace = false

/** What all spans of an operation at one place say, made once for each of its operations. */
const spanOptionsAt = ({
  collection,
  connection,
  system
}: Omit<Lifting, "readOnly">): ((operation: string) => Tracer.SpanOptions) => {
  const place = {
    "db.system.name": system,
    ...(connection !== undefined && placeOf(connection)),
    ...(collection !== undefined && { "db.collection.name": collection })
  }
  const known = new Map<string, Tracer.SpanOptions>()
  return (operation) => {
    let options = known.get(operation)
    if (options === undefined) {
      options = { kind: "client", captureStackTrace, attributes: { ...place, "db.operation.name": operation } }
      known.set(operation, options)
    }
    return options
  }
}

/** A URL with one server and the name of what is there; others (a file, several nodes) are a name by themselves. */
const placeOf = (connection: string): Record<string, unknown> => {
  const found = /^[a-z][a-z0-9+]*:\/\/(\[[^\]]+\]|[^/:,]+)(?::(\d+))?\/?(.*)$/.exec(connection)
  if (found === null) return { "db.namespace": connection }
  const [, address, port, namespace] = found
  return {
    "server.address": address,
    ...(port !== undefined && { "server.port": Number(port) }),
    ...(namespace !== "" && { "db.namespace": namespace })
  }
}

const spanned = <A, E, R>(
  name: string,
  options: Tracer.SpanOptions,
  body: (span: Tracer.Span) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.useSpan(name, options, (span) =>
    Effect.withParentSpan(
      Effect.tapErrorCause(body(span), (cause) => Effect.sync(() => failed(span, cause))),
      span
    )
  ) as Effect.Effect<A, E, R>

const spannedStream = <A, E, R>(
  name: string,
  options: Tracer.SpanOptions,
  body: (span: Tracer.Span) => Stream.Stream<A, E, R>,
  rowsOf: ((item: A) => number) | undefined
): Stream.Stream<A, E, R> =>
  Stream.unwrap(
    Effect.map(Effect.orDie(Effect.currentSpan), (span) =>
      Stream.tapErrorCause(Stream.mapChunks(body(span), counting(span, rowsOf)), (cause) =>
        Effect.sync(() => failed(span, cause))
      )
    )
  ).pipe(Stream.withSpan(name, options)) as Stream.Stream<A, E, R>

/** An interrupt is no error. */
const failed = (span: Tracer.Span, cause: Cause.Cause<unknown>): void => {
  const [error = undefined] = [...Cause.failures(cause), ...Cause.defects(cause)]
  if (error === undefined) return
  span.attribute("error.type", typeOf(error))
  const status = statusOf(error)
  if (status !== undefined) span.attribute("db.response.status_code", status)
}

const typeOf = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return "_OTHER"
  if ("_tag" in error && typeof error._tag === "string") return error._tag
  return error instanceof Error ? error.name : "_OTHER"
}

/** The code by which PostgreSQL or SQLite has refused; those of the system (`EPIPE`) are none of the database's. */
const statusOf = (error: unknown): string | undefined => {
  // What an application's effect fails with may be anything, null as well.
  const { cause } = (error ?? {}) as { readonly cause?: unknown }
  const { code } = (cause ?? {}) as { readonly code?: unknown }
  return typeof code === "string" && /^(?=.*\d)[0-9A-Z]{5}$|^SQLITE_/.test(code) ? code : undefined
}

/** Says of a read, page by page, how much it has returned. */
const counting = <A>(span: Tracer.Span, rowsOf: ((item: A) => number) | undefined) => {
  let rows = 0
  returned(span, rows)
  return (chunk: Chunk.Chunk<A>): Chunk.Chunk<A> => {
    if (rowsOf === undefined) rows += chunk.length
    else for (const item of chunk) rows += rowsOf(item)
    returned(span, rows)
    return chunk
  }
}

/** How many records an operation has returned. */
export const returned = (span: Span, rows: number): void => span?.attribute("db.response.returned_rows", rows)

/** The step of a fold, which also says how much was folded. */
export const counted = <S, A>(span: Span, step: (state: S, item: A) => S): ((state: S, item: A) => S) => {
  if (span === undefined) return step
  let rows = 0
  returned(span, rows)
  return (state, item) => {
    returned(span, ++rows)
    return step(state, item)
  }
}

/** The attributes that are ours. */
export interface Attributes {
  readonly domain?: string | undefined
  readonly type?: string | undefined
  /** Appended, or read to load an aggregate. */
  readonly events?: number | undefined
  /** Of an append to several. */
  readonly streams?: number | undefined
  readonly expected?: string | undefined
  readonly version?: number | undefined
  /** Of the snapshot that a load has begun with. */
  readonly snapshot_version?: number | undefined
  readonly attempt?: number | undefined
  /** A transaction inside another: a savepoint. */
  readonly nested?: boolean | undefined
}

export const describe = (span: Span, attributes: Attributes): void => {
  if (span === undefined) return
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) span.attribute(`effect_stores.${name}`, value)
  }
}

/** Of an append of 10,000 events nobody reads all types. */
const namesMax = 8

/** Different names, each once, as one text: equal to a name where there is only one. */
export const names = (all: Iterable<string>): string => {
  const different = new Set<string>()
  for (const name of all) {
    if (different.size === namesMax && !different.has(name)) return `${[...different].join(", ")}, …`
    different.add(name)
  }
  return [...different].join(", ")
}

/** Wraps what is made of several operations. */
export const composed = <A, E, R>(name: string, body: (span: Span) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiberRuntime((fiber) => (isVisible(fiber) ? spanned(name, { captureStackTrace }, body) : body(undefined)))

/** Wraps the transactions of one database, which `name` names (`PgDatabase`). */
export const transactions = (name: string, where: Lifting) => {
  const options = spanOptionsAt(where)("transaction")
  return <A, E, R>(fiber: Seen, nested: boolean, self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    isVisible(fiber)
      ? spanned(`${name}.transaction`, options, (span) => {
          describe(span, { nested })
          return self
        })
      : self
}

const delays = Metric.fromMetricKey(
  MetricKey.histogram(
    "effect_stores_subscription_delay_ms",
    MetricBoundaries.exponential({ start: 1, factor: 4, count: 12 }),
    "Milliseconds from the creation of an event to its reading by a subscription, of the last event of each page"
  )
)

/** A subscription has read an event that was created so long ago. */
export const delayed = (ms: number): void => delays.unsafeUpdate(Math.max(0, ms), [])

const held = {
  positions: MetricKey.gauge("effect_stores_feed_held_back_positions", {
    description: "Positions that were given to events and that the feed must not pass yet, by database and table"
  }),
  ms: MetricKey.gauge("effect_stores_feed_held_back_ms", {
    description: "Milliseconds for which the feed has been held back, by database and table"
  })
}

/** How a feed reports that open transactions hold it back. */
export const feedMeter = (
  database: string,
  table: string
): { readonly heldBack: (positions: number, ms: number) => void } => {
  const labels = [MetricLabel.make("database", database), MetricLabel.make("table", table)]
  const gauge = (key: MetricKey.MetricKey.Gauge<number>) =>
    Metric.fromMetricKey(MetricKey.taggedWithLabels(key, labels))
  const [positions, ms] = [gauge(held.positions), gauge(held.ms)]
  const heldBack = (by: number, forMs: number): void => {
    positions.unsafeUpdate(by, [])
    ms.unsafeUpdate(forMs, [])
  }
  heldBack(0, 0)
  return { heldBack }
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
