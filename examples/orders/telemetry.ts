/**
 * Spans, metrics and logs to an OpenTelemetry collector, where `OTEL_EXPORTER_OTLP_ENDPOINT` names one. The stores'
 * operations are children of the spans of requests; their metrics begin with `effect_stores_`. Events carry the span that
 * has appended them (`EVENT_STORE_TRACEPARENT`), so what a reader does with them links to the request: `orders.follow` in
 * readModel.ts. docs/telemetry.md lists what there is to see.
 */

import * as Otlp from "@effect/opentelemetry/Otlp"
import { FetchHttpClient } from "@effect/platform"
import { Config, Effect, Layer, Option, Redacted } from "effect"

/** `name=value,name=value`, percent-encoded, as OpenTelemetry has it. */
const headersOf = (text: string): Record<string, string> =>
  Object.fromEntries(
    text.split(",").flatMap((pair) => {
      const at = pair.indexOf("=")
      return at < 1 ? [] : [[pair.slice(0, at).trim(), decodeURIComponent(pair.slice(at + 1).trim())]]
    })
  )

const settings = Config.all({
  endpoint: Config.option(Config.nonEmptyString("OTEL_EXPORTER_OTLP_ENDPOINT")),
  headers: Config.withDefault(Config.redacted("OTEL_EXPORTER_OTLP_HEADERS"), Redacted.make("")),
  serviceName: Config.withDefault(Config.nonEmptyString("OTEL_SERVICE_NAME"), "orders"),
  metricsEveryMs: Config.withDefault(Config.integer("OTEL_METRIC_EXPORT_INTERVAL"), 60_000)
})

/** What is left is sent when the process ends, so nothing else may outlive this layer. */
export const layer = Layer.unwrapEffect(
  Effect.map(settings, ({ endpoint, headers, metricsEveryMs, serviceName }) =>
    Option.match(endpoint, {
      onNone: () => Layer.empty,
      onSome: (baseUrl) =>
        Otlp.layerJson({
          baseUrl,
          headers: headersOf(Redacted.value(headers)),
          resource: { serviceName },
          metricsExportInterval: metricsEveryMs
        }).pipe(Layer.provide(FetchHttpClient.layer))
    })
  )
)
