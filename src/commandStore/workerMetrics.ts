/**
 * What workers report. Labels are in the keys, as in `internal/telemetry`.
 */
import * as Metric from "effect/Metric"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"

const commands = MetricKey.counter("effect_stores_worker_commands", {
  description: "What came of commands that workers executed, by worker and outcome",
  incremental: true
})

const running = MetricKey.gauge("effect_stores_worker_running", {
  description: "Commands that workers of this process execute, by worker"
})

const overdue = MetricKey.gauge("effect_stores_worker_overdue_ms", {
  description: "Milliseconds since when the first open command is due, at the last look, by worker"
})

/**
 * `succeeded`, `failed`: it has that outcome; `retried`: an attempt has failed, and another will be made; `given_up`:
 * the last one has; `unavailable`: the store could not be looked at.
 */
export type Outcome = "succeeded" | "failed" | "retried" | "given_up" | "unavailable"

export interface Metrics {
  readonly ended: (outcome: Outcome) => void
  readonly running: (more: number) => void
  readonly overdue: (ms: number) => void
}

export const make = (name: string): Metrics => {
  const label = MetricLabel.make("worker", name)
  const gauge = (key: MetricKey.MetricKey.Gauge<number>) =>
    Metric.fromMetricKey(MetricKey.taggedWithLabels(key, [label]))
  const [atWork, waiting] = [gauge(running), gauge(overdue)]
  return {
    ended: (outcome) =>
      Metric.fromMetricKey(
        MetricKey.taggedWithLabels(commands, [label, MetricLabel.make("outcome", outcome)])
      ).unsafeUpdate(1, []),
    running: (more) => atWork.unsafeModify(more, []),
    overdue: (ms) => waiting.unsafeUpdate(ms, [])
  }
}
