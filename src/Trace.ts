/**
 * From a trace to the events that were appended in it, and back. A store whose layer has the option `traceparent`
 * writes the span that appends into the metadata of its events, as W3C Trace Context has it; whoever handles an event,
 * later and elsewhere, links to that span. docs/telemetry.md lists all spans and metrics.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

/**
 * Where a store's data are, for the attributes of its spans.
 *
 * @since 0.1.0
 * @category models
 */
export interface Location {
  /** A URL without secrets (`postgres://db:5432/app`), or the name of a file. */
  readonly connection?: string | undefined
  /** The table. */
  readonly collection?: string | undefined
}

/**
 * The key of the metadata, whose value is a `traceparent` of [W3C Trace Context](https://www.w3.org/TR/trace-context/),
 * as in the header of that name: `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
 *
 * @since 0.1.0
 * @category constants
 */
export const metadataKey = "traceparent"

/**
 * The `traceparent` of a span: to write it by hand, into a command or a message of another system. `None` if its tracer
 * has other ids than those of W3C Trace Context.
 *
 * @since 0.1.0
 * @category converting
 */
export const traceparentOf = ({
  sampled,
  spanId,
  traceId
}: Pick<Tracer.AnySpan, "traceId" | "spanId" | "sampled">): Option.Option<string> => {
  const text = `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`
  return isTraceparent(text) ? Option.some(text) : Option.none()
}

/**
 * The span that a `traceparent` names. `None` for any other value, as the standard wants it: a trace that cannot be
 * read is no reason to refuse an event. Fields that a later version adds at its end are ignored.
 *
 * @since 0.1.0
 * @category converting
 */
export const parse = (value: unknown): Option.Option<Tracer.ExternalSpan> => {
  if (typeof value !== "string" || !isTraceparent(value)) return Option.none()
  const [, traceId = "", spanId = "", flags = ""] = value.split("-")
  return Option.some(Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 }))
}

/**
 * A link to the span in which the event was appended; none if its metadata does not say. A link and no parent: what a
 * reader does belongs to a trace of its own, and may handle events of many.
 *
 * @example
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { EventStore, Trace } from "effect-stores"
 *
 * const project = (event: EventStore.Event) => Effect.log(event.type)
 *
 * const projection = Effect.flatMap(EventStore.EventStore, (store) =>
 *   Stream.runForEach(store.subscribe(), (event) =>
 *     Effect.withSpan(project(event), "project", { kind: "consumer", links: Trace.linksOf(event) })
 *   )
 * )
 * ```
 *
 * @since 0.1.0
 * @category linking
 */
export const linksOf = ({
  metadata
}: {
  readonly metadata: { readonly [key: string]: unknown }
}): ReadonlyArray<Tracer.SpanLink> =>
  Option.match(parse(metadata[metadataKey]), {
    onNone: () => [],
    onSome: (span) => [{ _tag: "SpanLink", span, attributes: {} }]
  })

/** Ids of zeros are invalid. */
const fields = "(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"

/** Version 00 has these fields only, later ones may have more. */
const pattern = new RegExp(`^(?:00-${fields}|(?!00|ff)[0-9a-f]{2}-${fields}(?:-.*)?)$`)

const isTraceparent = (text: string): boolean => pattern.test(text)
