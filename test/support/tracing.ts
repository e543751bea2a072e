/**
 * A tracer that keeps its spans, as an exporter would get them.
 */
import { Effect, Tracer } from "effect"

/** Makes the tracer the program's: spans go to the list in the order in which they begin. */
export const recording = (): { readonly spans: Array<Tracer.Span>; readonly tracer: Tracer.Tracer } => {
  const spans: Array<Tracer.Span> = []
  const native = Effect.runSync(Effect.tracer)
  const tracer = Tracer.make({
    span: (...args) => {
      const span = native.span(...args)
      spans.push(span)
      return span
    },
    context: (f) => f()
  })
  return { spans, tracer }
}

/** Runs with such a tracer, and returns the spans. */
export const traced = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<ReadonlyArray<Tracer.Span>, E, R> =>
  Effect.suspend(() => {
    const { spans, tracer } = recording()
    return Effect.as(Effect.withTracer(self, tracer), spans)
  })

export const attributesOf = (span: Tracer.Span | undefined): Record<string, unknown> =>
  Object.fromEntries(span?.attributes ?? [])
