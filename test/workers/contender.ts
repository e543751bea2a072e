/**
 * One of several processes that append to the same streams at the versions they have read. Reports each acknowledged
 * append, each conflict, and at the end how long the event loop was blocked at most.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import { Effect, Random } from "effect"
import { EventStore } from "effect-stores"
import { report, storeLayer } from "./store.js"

const fibers = Number(process.env.WORKER_FIBERS)
const appendsPerFiber = Number(process.env.WORKER_APPENDS)
const streams = Number(process.env.WORKER_STREAMS)

const streamOf = (n: number) => ({ tenantId: "t", domain: "shared", aggregateId: `s-${n}` })
const event = () => ({ id: crypto.randomUUID(), type: "Happened", data: { by: process.pid } })

const contend = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  for (let acknowledged = 0; acknowledged < appendsPerFiber; ) {
    const n = yield* Random.nextIntBetween(0, streams)
    const stream = streamOf(n)
    const expected = yield* store.version(stream)
    const events = Array.from({ length: yield* Random.nextIntBetween(1, 6) }, event)
    const ids = events.map(({ id }) => id)
    const both = (yield* Random.nextIntBetween(0, 10)) === 0
    if (both) {
      // A second stream, and a guard on a third that never moves.
      const other = streamOf((n + 1) % streams)
      const otherExpected = yield* store.version(other)
      const second = event()
      yield* store
        .appendAll(
          [
            { stream, events, expected },
            { stream: other, events: [second], expected: otherExpected }
          ],
          { guards: [{ stream: { ...stream, domain: "empty" }, expected: "noStream" }] }
        )
        .pipe(
          Effect.map(([one, two]): void => {
            report({ ok: stream.aggregateId, version: one?.version, ids })
            report({ ok: other.aggregateId, version: two?.version, ids: [second.id] })
            acknowledged++
          }),
          Effect.catchTag("VersionConflict", conflict)
        )
    } else {
      yield* store.append(stream, events, { expected }).pipe(
        Effect.map(({ version }): void => {
          report({ ok: stream.aggregateId, version, ids })
          acknowledged++
        }),
        Effect.catchTag("VersionConflict", conflict)
      )
    }
  }
})

const conflict = ({ actual, expected, stream }: EventStore.VersionConflict) =>
  Effect.sync(() => report({ conflict: stream.aggregateId, expected, actual }))

const delay = monitorEventLoopDelay({ resolution: 10 })
delay.enable()
const program = Effect.all(
  Array.from({ length: fibers }, () => contend),
  { concurrency: "unbounded" }
)
const exit = await Effect.runPromiseExit(Effect.provide(program, await storeLayer()))
report({ blockedMs: delay.max / 1e6 })
if (exit._tag === "Failure") {
  report({ failure: String(exit.cause) })
  process.exitCode = 1
}
