/**
 * Commands, events and executions as applications write them. test/types.test.ts compiles this file.
 */
import { Context, Effect, Schema, Stream } from "effect"
import { CommandStore, EventStore } from "effect-stores"

class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}
class Down extends Schema.TaggedError<Down>()("Down", {}) {}
class Mailer extends Context.Tag("Mailer")<Mailer, { readonly send: Effect.Effect<string, Down> }>() {}
const command: CommandStore.NewCommand = { id: "1", tenantId: "acme", domain: "order", type: "Place", data: {} }

// type: Effect.Effect<void, CommandStore.ExecuteError, CommandStore.CommandStore>
export const nothingKept = Effect.flatMap(CommandStore.CommandStore, (store) => store.execute(command, Effect.void))

// type: Effect.Effect<string, Down | CommandStore.ExecuteError, Mailer | CommandStore.CommandStore>
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
