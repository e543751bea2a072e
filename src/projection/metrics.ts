/**
 * What projections report. Labels are in the keys, as in `internal/telemetry`.
 */
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"

const lag = MetricKey.gauge("effect_stores_projection_lag", {
  description: "Positions between the head of the store and a partition, by projection and partition"
})

const held = MetricKey.gauge("effect_stores_projection_partitions_held", {
  description: "Partitions that this process works on, by projection"
})

const batches = MetricKey.histogram(
  "effect_stores_projection_batch_events",
  MetricBoundaries.fromIterable([1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000]),
  "Events of each batch that was committed, by projection"
)

const failures = MetricKey.counter("effect_stores_projection_failures", {
  description: "Attempts at a batch that failed, by projection and by what became of it",
  incremental: true
})

/**
 * `failed`: an attempt; `stopped`: the projection, after the last one; `skip` and `park`: an event, after the last one;
 * `unavailable`: a store, which is waited for.
 */
export type Outcome = "failed" | "stopped" | "skip" | "park" | "unavailable"

export interface Metrics {
  readonly lag: (partition: number, positions: number) => void
  readonly held: (partitions: number) => void
  readonly batch: (events: number) => void
  readonly failed: (outcome: Outcome) => void
}

export const make = ({ generation, name }: { readonly name: string; readonly generation: number }): Metrics => {
  const labels = [MetricLabel.make("projection", name), MetricLabel.make("generation", String(generation))]
  const heldHere = Metric.fromMetricKey(MetricKey.taggedWithLabels(held, labels))
  const batch = Metric.fromMetricKey(MetricKey.taggedWithLabels(batches, labels))
  const lags = new Map<number, Metric.Metric.Gauge<number>>()
  return {
    lag: (partition, positions) => {
      const known = lags.get(partition)
      const gauge =
        known ??
        Metric.fromMetricKey(
          MetricKey.taggedWithLabels(lag, [...labels, MetricLabel.make("partition", String(partition))])
        )
      if (known === undefined) lags.set(partition, gauge)
      gauge.unsafeUpdate(positions, [])
    },
    held: (partitions) => heldHere.unsafeUpdate(partitions, []),
    batch: (events) => batch.unsafeUpdate(events, []),
    failed: (outcome) =>
      Metric.fromMetricKey(
        MetricKey.taggedWithLabels(failures, [...labels, MetricLabel.make("outcome", outcome)])
      ).unsafeUpdate(1, [])
  }
}
