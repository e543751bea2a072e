/**
 * Says which of the library's files an append passes, by V8's coverage: `appendPath.ts <Pg url | sqlite file>`.
 */
import { Session } from "node:inspector/promises"
import { fileURLToPath } from "node:url"
import { Effect, type Layer, Redacted } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { say } from "./say.js"

const [where = ""] = process.argv.slice(2)
const src = fileURLToPath(new URL("../../src/", import.meta.url))
const layer: Layer.Layer<EventStore.EventStore, unknown> = where.startsWith("postgres")
  ? EventStorePg.layer({ url: Redacted.make(where) })
  : EventStoreSqlite.layer({ filename: where })

const append = (aggregateId: string) =>
  Effect.flatMap(EventStore.EventStore, (store) =>
    store.append({ tenantId: "t", domain: "d", aggregateId }, [{ type: "Opened", data: { n: 1 } }], { expected: 0 })
  )

const program = Effect.gen(function* () {
  const session = new Session()
  session.connect()
  yield* Effect.promise(() => session.post("Profiler.enable"))
  yield* Effect.promise(() => session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false }))
  const take = Effect.promise(() => session.post("Profiler.takePreciseCoverage"))
  yield* append("first")
  // A moment after an append, other processes are told of it.
  yield* Effect.sleep("1 second")
  // What has run so far is forgotten.
  yield* take
  yield* append("counted")
  const { result } = yield* take
  say(
    result
      .filter(({ functions }) => functions.some(({ ranges }) => (ranges[0]?.count ?? 0) > 0))
      .map(({ url }) => (url.startsWith("file:") ? fileURLToPath(url) : url))
      .filter((file) => file.startsWith(src))
      .map((file) => file.slice(src.length))
      .sort()
  )
})

await Effect.runPromise(Effect.provide(program, layer))
