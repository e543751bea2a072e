/**
 * One of several processes that append to the same streams at the versions they have read. Reports each acknowledged
 * append, each conflict, and at the end how long the event loop was blocked at most.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import { Cause, Effect, Exit, Random } from "effect"
import { EventStore } from "effect-stores"
import { now } from "./history.js"
import { newIds, report, share, storeLayer, streamOf } from "./store.js"

const fibers = Number(process.env.WORKER_FIBERS)
const appendsPerFiber = Number(process.env.WORKER_APPENDS)
const streams = Number(process.env.WORKER_STREAMS)

/** One append, to one stream or to one or two streams with a guard on another, read and tried again until it wins. */
const appendOnce = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  const first = yield* Random.nextIntBetween(0, streams)
  // Neighbours, so that guards and writes of different processes meet.
  const names = yield* Random.shuffle([0, 1, 2].map((n) => `s-${(first + n) % streams}`))
  const written = [...names].slice(0, yield* Random.choice([1, 1, 1, 1, 1, 1, 1, 2]))
  const guarded = [...names].slice(written.length, written.length + (yield* Random.choice([0, 0, 0, 1])))
  const parts: Array<ReadonlyArray<string>> = []
  // Often one event: such appends take another way than batches.
  for (const _ of written) parts.push(newIds(yield* Random.choice([1, 1, 1, 2, 3, 5])))
  const size = parts.flat().length
  const batch = crypto.randomUUID()
  const events = parts.map((ids) => share(ids, batch, size))

  for (let won = false; !won; ) {
    const expected = yield* Effect.forEach(written, (name) => store.version(streamOf(name)))
    const guards = yield* Effect.forEach(guarded, (name) =>
      Effect.map(store.version(streamOf(name)), (version) => ({ stream: name, expected: version }))
    )
    const start = now()
    const appends = written.map((name, n) => ({
      stream: streamOf(name),
      events: events[n] ?? [],
      expected: expected[n] ?? 0
    }))
    const [only] = appends
    const append =
      appends.length === 1 && guards.length === 0 && only !== undefined
        ? Effect.map(store.append(only.stream, only.events, { expected: only.expected }), (answer) => [answer])
        : store.appendAll(appends, {
            guards: guards.map(({ expected, stream }) => ({ stream: streamOf(stream), expected }))
          })
    won = yield* append.pipe(
      Effect.map((answers) => {
        const writes = answers.map(({ version }, n) => ({ stream: written[n] ?? "", version, ids: parts[n] ?? [] }))
        report({ writes, guards, start, end: now() })
        return true
      }),
      Effect.catchTag("VersionConflict", ({ actual, expected, stream }) => {
        const conflict = { stream: stream.aggregateId, expected: Number(expected), actual }
        report({ conflict, start, end: now() })
        return Effect.succeed(false)
      })
    )
  }
})

const delay = monitorEventLoopDelay({ resolution: 10 })

const program = Effect.gen(function* () {
  yield* EventStore.EventStore
  // From here on: loading the program blocks too, but is not what is measured.
  delay.enable()
  yield* Effect.all(
    Array.from({ length: fibers }, () => Effect.repeatN(appendOnce, appendsPerFiber - 1)),
    { concurrency: "unbounded" }
  )
})

const exit = await Effect.runPromiseExit(Effect.provide(program, await storeLayer()))
report({ blockedMs: delay.max / 1e6 })
if (Exit.isFailure(exit)) {
  report({ failure: Cause.pretty(exit.cause) })
  process.exitCode = 1
}
