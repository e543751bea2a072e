/**
 * The process that reads a stream of large events in several ways, and says what it holds meanwhile and how often the
 * event loop turns: `large-events.ts <sqlite file | Pg url> <events> <bytes>`. It needs --expose-gc.
 */
import { Effect, type Layer, Redacted, Stream } from "effect"
import { type Errors, EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { EventStoreSqlite } from "effect-stores/sqlite"

const [where = "", events = "", bytes = ""] = process.argv.slice(2)
const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
const layer: Layer.Layer<EventStore.EventStore, Errors.InvalidInput | Errors.StoreFailure> = where.startsWith(
  "postgres"
)
  ? EventStorePg.layer({ url: Redacted.make(where) })
  : EventStoreSqlite.layer({ filename: where, synchronous: "OFF" })

const mebibyte = 1024 ** 2

const used = (): number => {
  globalThis.gc?.()
  const { arrayBuffers, external, heapUsed } = process.memoryUsage()
  return heapUsed + external + arrayBuffers
}

/** What a reader holds at most while it reads, and how many events it gets between two turns of the event loop. */
const observed = <E, R>(
  name: string,
  read: (take: (event: EventStore.Event) => void) => Effect.Effect<unknown, E, R>
) =>
  Effect.gen(function* () {
    const before = used()
    let held = 0
    let seen = 0
    let sinceTurn = 0
    let mostInTurn = 0
    let turn: NodeJS.Immediate
    const next = () => {
      sinceTurn = 0
      turn = setImmediate(next)
    }
    next()
    yield* read((event) => {
      seen += (event.data as { readonly text: string }).text.length
      held = Math.max(held, used() - before)
      mostInTurn = Math.max(mostInTurn, ++sinceTurn)
    })
    yield* Effect.sync(() => clearImmediate(turn))
    return { name, seen, heldMiB: Math.ceil(held / mebibyte), mostInTurn }
  })

const program = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  const text = "x".repeat(Number(bytes))
  for (let i = 0; i < Number(events); i++)
    yield* store.append(stream, [{ type: "Large", data: { text } }], { expected: i })
  type Take = (event: EventStore.Event) => void
  const each =
    <E, R>(events: Stream.Stream<EventStore.Event, E, R>) =>
    (take: Take) =>
      Stream.runForEach(events, (event) => Effect.sync(() => take(event)))
  const folded = (direction: EventStore.Direction) => (take: Take) =>
    store.fold(
      stream,
      take,
      (take, event) => {
        take(event)
        return take
      },
      { direction }
    )
  const found = [
    yield* observed("read", each(store.read(stream))),
    yield* observed("fold", folded("forward")),
    yield* observed("backward", folded("backward")),
    yield* observed("feed", each(store.feed())),
    yield* observed("subscribe", each(Stream.take(store.subscribe(), Number(events))))
  ]
  process.stdout.write(JSON.stringify(found))
})

Effect.runPromise(Effect.provide(program, layer)).catch((error) => {
  process.stderr.write(String(error))
  process.exitCode = 1
})
