/**
 * Mistakes in commands, events and executions. Each statement has the errors that stand above it, and no others
 * (test/types.test.ts).
 */
import { Effect, Schema } from "effect"
import { CommandStore, CommandWorker, EventStore, Reaction } from "effect-stores"

declare const store: CommandStore.CommandStoreShape
const command: CommandStore.NewCommand = { id: "1", tenantId: "acme", domain: "order", type: "Place", data: {} }

// error: Type 'number' is not assignable to type 'string'
export const anotherResult = store.execute(command, Effect.succeed(1), { success: Schema.String })

// error: Property '"options.success must be given to keep this result"' is missing in type 'Effect<number, never, never>'
export const resultNotKept = store.execute(command, Effect.succeed(1))

// error: Property '"options.success must be given to keep this result"' is missing in type 'Effect<string, never, never>'
export const resultOfVoid = store.execute(command, Effect.succeed("done"), { success: Schema.Void, lease: "1 minute" })

// error: 'successes' does not exist in type
export const misspeltOption = store.execute(command, Effect.void, { successes: Schema.String })

// error: is not assignable to type 'OutcomeSchema | undefined'
export const noSchema = store.execute(command, Effect.void, { failure: "Refused" })

const Order = Schema.Union(
  Schema.TaggedStruct("Place", { total: Schema.Number }),
  Schema.TaggedStruct("Cancel", { why: Schema.Literal("late", "broken") })
)
const commands = CommandStore.forSchema(Order)
const envelope = { id: "1", tenantId: "acme", domain: "order" }

// error: Type '"Placed"' is not assignable to type
export const anotherTag = commands.execute({ _tag: "Placed", total: 3 }, envelope, Effect.void)

// error: Property '"options.success must be given to keep this result"' is missing in type 'Effect<number, never, never>'
export const typedResultNotKept = commands.execute({ _tag: "Place", total: 3 }, envelope, Effect.succeed(1))

// error: Type '"lost"' is not assignable to type '"late" | "broken"'
export const anotherField = commands.create({ _tag: "Cancel", why: "lost" }, envelope)

// error: Property 'domain' is missing in type
export const halfAnEnvelope = commands.create({ _tag: "Place", total: 3 }, { id: "1", tenantId: "acme" })

// error: Property '_tag' is missing in type
export const commandsWithoutTag = CommandStore.forSchema(Schema.Struct({ total: Schema.Number }))

// error: Property '_tag' is missing in type
export const eventsWithoutTag = EventStore.forSchema(Schema.Struct({ total: Schema.Number }))

const events = EventStore.forSchema(Order)
const stream = { tenantId: "acme", domain: "order", aggregateId: "1" }

// error: Type '"Placed"' is not assignable to type
export const appendsAnotherTag = events.append(stream, [{ _tag: "Placed", total: 1 }], { expected: "any" })

// error: Type '"none"' is not assignable to type
export const anotherExpectation = events.append(stream, [{ _tag: "Place", total: 1 }], { expected: "none" })

declare const log: EventStore.EventStoreShape

// error: Type '() => Effect.Effect<number, never, never>' is not assignable to type 'never'
export const inDoubt = Effect.catchTags(log.head, { CommitOutcomeUnknown: () => Effect.succeed(0) })

// error: is not assignable to type
export const workedResultNotKept = CommandWorker.handler(Order, () => Effect.succeed(1))

// error: Type '"Placed"' is not assignable to type
export const reactsWithAnotherCommand = Reaction.make({
  name: "r",
  events: Order,
  commands: Order,
  react: () => [{ domain: "d", command: { _tag: "Placed", total: 1 } }]
})
