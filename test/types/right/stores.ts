/**
 * Commands, events and executions as applications write them. test/types.test.ts compiles this file.
 */
import { type Cause, Context, Effect, Schema, Stream } from "effect"
import {
  type CacheStore,
  type CheckpointStore,
  CommandStore,
  CommandWorker,
  type DataStore,
  type Errors,
  EventStore,
  Projection,
  Reaction,
  SnapshotStore
} from "effect-stores"

type Stores = CommandStore.CommandStore | EventStore.EventStore | SnapshotStore.SnapshotStore
type InvalidInput = Errors.InvalidInput | SnapshotStore.SnapshotCorrupt
type Known = Exclude<Errors.StoreFailure, Errors.CommitOutcomeUnknown>

class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}
class Down extends Schema.TaggedError<Down>()("Down", {}) {}
class Mailer extends Context.Tag("Mailer")<Mailer, { readonly send: Effect.Effect<string, Down> }>() {}
const command: CommandStore.NewCommand = { id: "1", tenantId: "acme", domain: "order", type: "Place", data: {} }

// type: Effect.Effect<void, CommandStore.ExecuteError, CommandStore.CommandStore>
export const nothingKept = Effect.flatMap(CommandStore.CommandStore, (store) => store.execute(command, Effect.void))

// type: Effect.Effect<string, Down | CommandStore.ExecuteError, CommandStore.CommandStore | Mailer>
export const result = Effect.flatMap(CommandStore.CommandStore, (store) =>
  store.execute(
    command,
    Effect.flatMap(Mailer, ({ send }) => send),
    { success: Schema.String }
  )
)

export const literals = Effect.flatMap(CommandStore.CommandStore, (store) =>
  store.execute(command, Effect.succeed({ status: "sent" } as const), {
    success: Schema.Struct({ status: Schema.Literal("sent", "held") })
  })
)

export const failures = Effect.flatMap(CommandStore.CommandStore, (store) =>
  store.execute(
    command,
    Effect.gen(function* () {
      const { attempt } = yield* CommandStore.CurrentCommand
      if (attempt > 3) return yield* new Refused({ why: "too often" })
      const { send } = yield* Mailer
      return { sent: yield* send, at: new Date() }
    }),
    { success: Schema.Struct({ sent: Schema.String, at: Schema.Date }), failure: Refused, transaction: true }
  )
)

export const neverSucceeds = Effect.flatMap(CommandStore.CommandStore, (store) =>
  store.execute(command, new Refused({ why: "no" }), { failure: Schema.Union(Refused, Down), lease: "1 minute" })
)

const Order = Schema.Union(
  Schema.TaggedStruct("Place", { total: Schema.Number }),
  Schema.TaggedStruct("Cancel", { why: Schema.Literal("late", "broken"), at: Schema.optional(Schema.Date) })
)
const commands = CommandStore.forSchema(Order)
const envelope = { id: "1", tenantId: "acme", domain: "order" }
export const typedCommand = commands.execute({ _tag: "Place", total: 3 }, envelope, Effect.void)
export const typedResult = commands.execute({ _tag: "Cancel", why: "late" }, envelope, Effect.succeed(1), {
  success: Schema.Number
})
export const replayed = commands
  .replay()
  .pipe(Stream.map(({ data }) => (data._tag === "Place" ? data.total : data.why)))

const events = EventStore.forSchema(Order)
const stream = { tenantId: "acme", domain: "order", aggregateId: "1" }
export const appended = events.append(
  stream,
  [
    { _tag: "Place", total: 1 },
    { _tag: "Cancel", why: "broken" }
  ],
  {
    expected: "noStream"
  }
)
export const folded = events.fold(stream, 0, (sum, { data }) => (data._tag === "Place" ? sum + data.total : sum))

// A read has nothing to commit.
// type: Effect.Effect<number, EventStore.ReadError, EventStore.EventStore>
export const version = Effect.flatMap(EventStore.EventStore, (store) => store.version(stream))
export const readsAreNeverInDoubt: Effect.Effect<unknown, InvalidInput | Known, Stores> = Effect.gen(function* () {
  const events = yield* EventStore.EventStore
  const commands = yield* CommandStore.CommandStore
  const snapshots = yield* SnapshotStore.SnapshotStore
  yield* Effect.all([Stream.runDrain(events.read(stream)), Stream.runDrain(events.feed()), events.get("1")])
  yield* Effect.all([events.page(), events.count(), Stream.runDrain(events.distinct("type"))])
  yield* Effect.all([Stream.runDrain(events.subscribe()), events.fold(stream, 0, (n) => n + 1)])
  yield* Effect.all([Stream.runDrain(commands.list()), commands.get("1"), commands.page(), commands.count()])
  yield* Effect.all([Stream.runDrain(commands.distinct("type")), snapshots.latest(stream)])
})
export const nothingToRefuse: Effect.Effect<unknown, Known, Stores> = Effect.gen(function* () {
  const events = yield* EventStore.EventStore
  const commands = yield* CommandStore.CommandStore
  const snapshots = yield* SnapshotStore.SnapshotStore
  yield* Effect.all([events.head, events.info, commands.info, snapshots.info])
})

declare const cache: CacheStore.CacheStoreShape
declare const data: DataStore.DataStoreShape
const object = { bucket: "assets", name: "logo" }
type Missing = Cause.NoSuchElementException | DataStore.ObjectChanged | DataStore.ObjectCorrupt | Errors.NotFound
export const cachedReads: Effect.Effect<unknown, Errors.InvalidInput | Known> = Effect.all([
  Effect.all([cache.get("acme", "k"), cache.getMany("acme", ["k"]), cache.count("acme")]),
  Effect.all([Stream.runDrain(cache.list("acme")), cache.info])
])
export const objectReads: Effect.Effect<unknown, Errors.InvalidInput | Missing | Known> = Effect.all([
  Effect.flatMap(Effect.flatten(data.get(object)), ({ body }) => Stream.runDrain(body)),
  Effect.all([data.head(object), Stream.runDrain(data.list("assets")), data.count("assets"), data.info]),
  Effect.all([data.buckets.exists("assets"), data.buckets.list])
])

const mail = CommandWorker.handler(
  Schema.TaggedStruct("Mail", { to: Schema.String }),
  () => Effect.flatMap(Mailer, ({ send }) => send),
  { success: Schema.String, failure: Down }
)
const count = CommandWorker.handler(
  Schema.TaggedStruct("Count", {}),
  () => Effect.map(CommandStore.CurrentCommand, ({ attempt }) => attempt),
  { success: Schema.Number }
)
// What all handlers need, but for what a worker provides.
export const working: Effect.Effect<never, CommandWorker.RunError, Mailer | CommandStore.CommandStore> =
  CommandWorker.run(CommandWorker.make({ name: "w", handlers: [mail, count] }))

// A reaction is run as a projection.
export const reacting: Effect.Effect<
  number,
  Projection.RunError,
  Mailer | EventStore.EventStore | CheckpointStore.CheckpointStore | CommandStore.CommandStore
> = Projection.catchUp(
  Reaction.make({
    name: "r",
    events: Schema.TaggedStruct("Happened", { n: Schema.Number }),
    commands: Schema.TaggedStruct("Count", {}),
    react: ({ data }) => Effect.as(Mailer, data.n > 0 ? [{ domain: "d", command: { _tag: "Count" as const } }] : [])
  })
)
