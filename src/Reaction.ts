/**
 * Reactions (process managers, policies): commands that follow from events. A reaction is a projection whose handler
 * stores commands in the CommandStore; a `CommandWorker` executes them. Run it as a projection: `Projection.run`,
 * `catchUp`, `status` and the others are for reactions, too.
 *
 * However often an event is handled, each command that follows from it is stored once, and has one outcome: its id is
 * derived from the event's. A crash between a command and the checkpoint repeats the event, and its commands are
 * recognised. This needs no transaction, so events, checkpoints and commands may be on different databases.
 *
 * @example
 * ```ts
 * import { DateTime, Schema } from "effect"
 * import { Reaction } from "effect-stores"
 *
 * const Placed = Schema.TaggedStruct("Placed", { item: Schema.String })
 * const Reserve = Schema.TaggedStruct("Reserve", { item: Schema.String })
 * const Remind = Schema.TaggedStruct("Remind", { order: Schema.String })
 *
 * const OnPlaced = Reaction.make({
 *   name: "on_placed",
 *   events: Placed,
 *   filter: { domain: "order" },
 *   commands: Schema.Union(Reserve, Remind),
 *   react: ({ aggregateId, createdAt, data }) => [
 *     { domain: "stock", command: Reserve.make({ item: data.item }) },
 *     {
 *       domain: "order",
 *       command: Remind.make({ order: aggregateId }),
 *       // A time-out: a worker executes it in three days, whatever stops or starts meanwhile.
 *       dueAt: DateTime.add(createdAt, { days: 3 })
 *     }
 *   ]
 * })
 * ```
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as CommandStore from "./CommandStore.js"
import type * as EventStore from "./EventStore.js"
import { array, describe, fields, identifier, integer, record, refuse } from "./internal/validate.js"
import * as Projection from "./Projection.js"
import * as Uuid from "./Uuid.js"

/**
 * A command that follows from an event.
 *
 * @since 0.1.0
 * @category models
 */
export interface Request<C> {
  readonly command: C
  readonly domain: string
  /** Default: that of the event. */
  readonly tenantId?: string | undefined
  /** Beside `causationId`, which is the id of the event unless it is given here. */
  readonly metadata?: { readonly [key: string]: unknown } | undefined
  /** Workers execute it then, and not before. Take it from the event, so that it is the same each time. */
  readonly dueAt?: DateTime.Utc | undefined
}

/**
 * A projection whose handler stores commands: `atLeastOnce` in how often it handles an event, and once in what it
 * stores.
 *
 * @since 0.1.0
 * @category models
 */
export interface Reaction<R> extends Projection.Projection<"atLeastOnce", R | CommandStore.CommandStore> {}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<
  A extends { readonly _tag: string },
  I extends { readonly _tag: string },
  RS,
  C extends { readonly _tag: string },
  CI extends { readonly _tag: string },
  RC,
  E,
  RR
> extends Omit<Projection.Options<A, I, RS, E, RR, "atLeastOnce">, "delivery" | "handle" | "generation"> {
  /**
   * By which its checkpoints are found, 1 to 255 bytes. It is a part of the ids of its commands, so with another name
   * all of them are sent again. It begins with the first event that there is: give `filter` a `createdFrom` where what
   * happened before is to be left alone.
   */
  readonly name: string
  /** What it sends: a tagged struct, or a union of them, as for `CommandStore.forSchema`. */
  readonly commands: Schema.Schema<C, CI, RC>
  /**
   * The commands that follow from an event, none included. They are told apart by their order: the same event must give
   * the same commands in the same order, or what was stored first counts, and a warning names the other.
   *
   * A failure here (or an event that does not fit) is the reaction's: it is retried, then treated as `onFailure` says.
   * A failure of a command is the command's: it is its outcome, or the worker tries it again, and the reaction goes on.
   */
  readonly react: (
    event: EventStore.TypedEvent<A>
  ) => ReadonlyArray<Request<NoInfer<C>>> | Effect.Effect<ReadonlyArray<Request<NoInfer<C>>>, E, RR>
}

/**
 * The id of the command that a reaction stores for an event, by its place among those of the event (from 0). For ever:
 *
 *     Uuid.derived(eventId, ["reaction", name, index])
 *
 * With it a command can be looked up, or cancelled (`CommandStore.cancel`). Throws `InvalidInput` for a bad name, id or
 * index.
 *
 * @since 0.1.0
 * @category getters
 */
export const commandId = (name: string, eventId: string, index = 0): string =>
  Uuid.derived(eventId, ["reaction", identifier(name, "name"), integer(index, "index", 0)])

const keys = [
  "name",
  "events",
  "filter",
  "commands",
  "react",
  "partitions",
  "batchSize",
  "lease",
  "retry",
  "onFailure"
] as const

const requestKeys = ["command", "domain", "tenantId", "metadata", "dueAt"] as const

/** More commands of one event would be a batch of their own. */
const requestsMax = 1_000

/**
 * Defines a reaction. Throws `InvalidInput` for bad options, as a definition is part of the program.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <
  A extends { readonly _tag: string },
  I extends { readonly _tag: string },
  RS,
  C extends { readonly _tag: string },
  CI extends { readonly _tag: string },
  RC,
  E = never,
  RR = never
>(
  options: Options<A, I, RS, C, CI, RC, E, RR>
): Reaction<RS | RC | RR> => {
  fields(options, "options", keys)
  const { commands, react, ...rest } = options
  if (!Schema.isSchema(commands)) return refuse("commands", `must be a Schema, not ${describe(commands)}`)
  if (typeof react !== "function") return refuse("react", `must be a function, not ${describe(react)}`)
  const { name } = options
  const typed = CommandStore.forSchema(commands)

  const send = (event: EventStore.TypedEvent<A>, request: Request<C>, index: number) => {
    const { command, dueAt, domain, metadata, tenantId = event.tenantId } = request
    const id = commandId(name, event.id, index)
    const envelope = { id, tenantId, domain, dueAt, metadata: { causationId: event.id, ...metadata } }
    return Effect.catchTag(typed.create(command, envelope), "DuplicateCommand", ({ why }) =>
      // Only this reaction has its id, so it was sent before, by other code perhaps.
      Effect.logWarning(`reaction ${name} has sent command ${id} for event ${event.id} before, ${why}: that one counts`)
    )
  }

  const handle = (event: EventStore.TypedEvent<A>) =>
    Effect.flatMap(
      Effect.suspend(() => {
        const reacted = react(event)
        return Effect.isEffect(reacted) ? reacted : Effect.succeed(reacted)
      }),
      (requests) => Effect.forEach(requestsOf(requests), (request, i) => send(event, request, i), { discard: true })
    )

  return Projection.make({
    ...rest,
    delivery: "atLeastOnce",
    handle: (events) => Effect.forEach(events, handle, { discard: true })
  })
}

/** Before any of them is sent. */
const requestsOf = <C>(requests: ReadonlyArray<Request<C>>): ReadonlyArray<Request<C>> => {
  for (const [i, request] of array(requests, "commands", 0, requestsMax).entries()) {
    const { command, metadata } = fields(request, `commands[${i}]`, requestKeys)
    record(command, `commands[${i}].command`)
    // Of a string or an array the elements would become metadata.
    if (metadata !== undefined) record(metadata, `commands[${i}].metadata`)
  }
  return requests
}
