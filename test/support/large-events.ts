/**
 * The process that reads large events and commands in every way, and says how its resident memory grows meanwhile and
 * how often the event loop turns: `large-events.ts <sqlite file | Pg url> <items> <bytes>`. It needs --expose-gc.
 */
import { Effect, Layer, Redacted, Stream } from "effect"
import { CommandStore, EventStore, Uuid } from "effect-stores"
import { CommandStorePg, EventStorePg, PgDatabase } from "effect-stores/pg"
import { CommandStoreSqlite, EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"

const [where = "", items = "", bytes = ""] = process.argv.slice(2)
const count = Number(items)
const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
const layer: Layer.Layer<EventStore.EventStore | CommandStore.CommandStore, unknown> = where.startsWith("postgres")
  ? Layer.provide(
      Layer.merge(EventStorePg.layerFromDatabase(), CommandStorePg.layerFromDatabase()),
      PgDatabase.layer({ url: Redacted.make(where) })
    )
  : Layer.provide(
      Layer.merge(EventStoreSqlite.layerFromDatabase(), CommandStoreSqlite.layerFromDatabase()),
      SqliteDatabase.layer({ filename: where, synchronous: "OFF" })
    )

const mebibyte = 1024 ** 2

type Take = (item: { readonly data: unknown }) => void

/** By how much memory grows while something is read, and how many items come between two turns of the event loop. */
const observed = (name: string, read: (take: Take) => Effect.Effect<unknown, unknown>) =>
  Effect.gen(function* () {
    globalThis.gc?.()
    const before = process.memoryUsage.rss()
    let most = before
    let seen = 0
    let sinceTurn = 0
    let mostInTurn = 0
    let turn: NodeJS.Immediate
    const measure = () => {
      most = Math.max(most, process.memoryUsage.rss())
    }
    const next = () => {
      measure()
      sinceTurn = 0
      turn = setImmediate(next)
    }
    next()
    yield* read(({ data }) => {
      measure()
      seen += (data as { readonly text: string }).text.length
      mostInTurn = Math.max(mostInTurn, ++sinceTurn)
    })
    yield* Effect.sync(() => clearImmediate(turn))
    return { name, seen, grownMiB: Math.ceil((most - before) / mebibyte), mostInTurn }
  })

const program = Effect.gen(function* () {
  const events = yield* EventStore.EventStore
  const commands = yield* CommandStore.CommandStore
  const data = { text: "x".repeat(Number(bytes)) }
  for (let i = 0; i < count; i++) {
    yield* events.append(stream, [{ type: "Large", data }], { expected: i })
    yield* commands.create({ id: Uuid.v7(Date.now()), tenantId: "t", domain: "d", type: "Large", data })
  }
  const each = (read: Stream.Stream<{ readonly data: unknown }, unknown>) => (take: Take) =>
    Stream.runForEach(read, (item) => Effect.sync(() => take(item)))
  const first = (read: Stream.Stream<{ readonly data: unknown }, unknown>) => each(Stream.take(read, 1))
  const folded = (direction: EventStore.Direction) => (take: Take) =>
    events.fold(
      stream,
      0,
      (seen, event) => {
        take(event)
        return seen + 1
      },
      { direction }
    )
  const followed = Stream.mapConcat(events.follow(), (step) => step.events)
  yield* observed("to warm up", each(Stream.take(events.read(stream), 3)))
  const found = [
    yield* observed("read", each(events.read(stream))),
    yield* observed("fold", folded("forward")),
    yield* observed("backward", folded("backward")),
    yield* observed("feed", each(events.feed())),
    yield* observed("subscribe", each(Stream.take(events.subscribe(), count))),
    yield* observed("follow", each(Stream.take(followed, count))),
    yield* observed("list", each(commands.list())),
    yield* observed("the first of read", first(events.read(stream))),
    yield* observed("the first of feed", first(events.feed())),
    yield* observed("the first of list", first(commands.list()))
  ]
  process.stdout.write(JSON.stringify(found))
})

Effect.runPromise(Effect.provide(program, layer)).catch((error) => {
  process.stderr.write(String(error))
  process.exitCode = 1
})
