/**
 * The process that replays a long history in a file and says how its heap grew meanwhile:
 * `replay-memory.ts <filename> <events> load|keep`. It needs --expose-gc. `keep` holds on to the events, so that the
 * test sees that this would show.
 */
import { Effect, Schema } from "effect"
import { Aggregate, EventStore, SnapshotPolicy } from "effect-stores"
import { EventStoreSqlite } from "effect-stores/sqlite"

const [filename = "", events = "", mode] = process.argv.slice(2)
const total = Number(events)
const batch = 10_000
const samples = 10

const id = { tenantId: "t", aggregateId: "a" }

const used = (): number => {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

let seen = 0
let most = 0

/** Looks while the replay is under way: after it, everything could be garbage again. */
const look = (): void => {
  if (++seen % (total / samples) === 0) most = Math.max(most, used())
}

const Counter = Aggregate.make({
  domain: "counter",
  state: Schema.Number,
  event: Schema.TaggedStruct("Added", { amount: Schema.Number, note: Schema.String }),
  initial: 0,
  evolve: (sum, { amount }) => {
    look()
    return sum + amount
  },
  snapshots: SnapshotPolicy.never
})

const keep = Effect.flatMap(EventStore.EventStore, (store) =>
  Effect.map(
    store.fold({ ...id, domain: "counter" }, Array.of<EventStore.Event>(), (events, event) => {
      look()
      events.push(event)
      return events
    }),
    ({ length }) => ({ state: length, version: length })
  )
)

const program = Effect.gen(function* () {
  for (let version = 0; version < total; version += batch) {
    const added = Array.from({ length: batch }, (_, i) => ({
      _tag: "Added" as const,
      amount: 1,
      note: `event ${version + i} of a long life`
    }))
    yield* Aggregate.append(Counter, id, added, { expected: version })
  }
  const before = used()
  const { state, version } = yield* mode === "keep" ? keep : Aggregate.load(Counter, id)
  process.stdout.write(JSON.stringify({ state, version, seen, grownBytes: most - before }))
})

Effect.runPromise(Effect.provide(program, EventStoreSqlite.layer({ filename, synchronous: "OFF" }))).catch((error) => {
  process.stderr.write(String(error))
  process.exitCode = 1
})
