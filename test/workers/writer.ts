/**
 * Appends batches until it is killed, and reports each one that was acknowledged. Goes on through what the store calls
 * retryable by repeating the same append; anything else ends it.
 */
import { Cause, Effect, Exit, Random } from "effect"
import { EventStore } from "effect-stores"
import { now } from "./history.js"
import { newIds, persist, report, share, storeLayer, streamOf } from "./store.js"

const name = process.env.WORKER_NAME ?? "writer"

/** Each fiber has a stream of its own, which nobody else moves, and all share two. */
const streamsOf = (fiber: number) =>
  Effect.map(Random.nextIntBetween(0, 4), (kind) =>
    kind === 0
      ? [`${name}-${fiber}`]
      : kind === 1
        ? [`${name}-${fiber}`, `shared-${fiber % 2}`]
        : [`shared-${kind === 2 ? 0 : 1}`]
  )

const appendOnce = (fiber: number) =>
  Effect.gen(function* () {
    const store = yield* EventStore.EventStore
    const streams = yield* streamsOf(fiber)
    // Often one event: such appends take another way than batches.
    const size = (yield* Random.nextBoolean) ? streams.length : yield* Random.nextIntBetween(streams.length, 11)
    const ids = newIds(size)
    const cut = streams.length === 1 ? size : yield* Random.nextIntBetween(1, size)
    const parts = [ids.slice(0, cut), ids.slice(cut)]
    const batch = crypto.randomUUID()
    for (let won = false; !won; ) {
      const appends = yield* Effect.forEach(streams, (stream, n) =>
        Effect.map(persist(store.version(streamOf(stream))), (expected) => ({
          stream: streamOf(stream),
          events: share(parts[n] ?? [], batch, size),
          expected
        }))
      )
      const [only] = appends
      const start = now()
      const append =
        appends.length === 1 && only !== undefined
          ? Effect.map(store.append(only.stream, only.events, { expected: only.expected }), (answer) => [answer])
          : store.appendAll(appends)
      won = yield* persist(append).pipe(
        Effect.map((answers) => {
          const writes = answers.map(({ version }, n) => ({ stream: streams[n] ?? "", version, ids: parts[n] ?? [] }))
          report({ writes, guards: [], start, end: now() })
          return true
        }),
        Effect.catchTag("VersionConflict", () => Effect.succeed(false))
      )
    }
  })

const program = Effect.all(
  Array.from({ length: 6 }, (_, fiber) => Effect.forever(appendOnce(fiber))),
  { concurrency: "unbounded" }
)

const exit = await Effect.runPromiseExit(Effect.provide(program, await storeLayer()))
if (Exit.isFailure(exit)) {
  report({ failure: Cause.pretty(exit.cause) })
  process.exitCode = 1
}
