/**
 * Workers: they execute the commands of a CommandStore that are `received`, that are due, and that nobody executes.
 * Those were stored by `create` or by a `Reaction`, or were left behind by a process that died. A worker has a handler
 * for each type of command that it knows, and leaves other types alone. Plain functions over a definition.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { CommandWorker } from "effect-stores"
 *
 * const Remind = Schema.TaggedStruct("Remind", { customer: Schema.String })
 *
 * const worker = CommandWorker.make({
 *   name: "reminders",
 *   handlers: [CommandWorker.handler(Remind, ({ data }) => Effect.log(`reminding ${data.customer}`))]
 * })
 *
 * const running = CommandWorker.run(worker)
 * ```
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { CommandStore, CurrentCommand, ExecuteOptions, Kept, OutcomeSchema, TypedCommand } from "./CommandStore.js"
import {
  type Definition,
  define,
  defineHandler,
  type HandlerDefinition,
  HandlerTypeId,
  TypeId
} from "./commandStore/worker.js"
import * as working from "./commandStore/working.js"
import type { InvalidInput, ReadOnly, StoreFailure } from "./Errors.js"

export { HandlerTypeId, TypeId } from "./commandStore/worker.js"

/**
 * What is done for commands of some types. `R` is what it needs.
 *
 * @since 0.1.0
 * @category models
 */
export interface Handler<out R> {
  /** @internal */
  readonly [HandlerTypeId]: HandlerDefinition<R>
  readonly types: ReadonlyArray<string>
}

/**
 * A worker. `R` is what its handlers need.
 *
 * @since 0.1.0
 * @category models
 */
export interface CommandWorker<out R> {
  /** @internal */
  readonly [TypeId]: Definition<R>
  readonly name: string
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<Handlers extends ReadonlyArray<Handler<unknown>>> {
  /** What its metrics are labelled with; 1 to 255 bytes. */
  readonly name: string
  /** At least one; each type once. */
  readonly handlers: Handlers
  /** Of this tenant alone. */
  readonly tenantId?: string | undefined
  /**
   * Of this domain alone. Without it a worker takes the commands of its types in all domains: give one where another
   * domain has a type of the same name, or its commands are taken, do not fit, and are given up.
   */
  readonly domain?: string | undefined
  /** Commands that this process executes at the same time, at most: 1 to 1,000. Default 10. */
  readonly concurrency?: number | undefined
  /** How often to look for commands of other processes, from 1 ms. Default 1 second. */
  readonly pollInterval?: Duration.DurationInput | undefined
  /**
   * After how many attempts a command is given up, 1 to 1,000,000. Every attempt that was begun counts, even if it was
   * cut off. It is given up when an attempt fails, or has died with its process: after one that was interrupted with
   * its worker there is another, whatever its number. Default 10.
   */
  readonly attempts?: number | undefined
  /** After a failed attempt; doubled with each attempt, up to 5 minutes. From 1 ms. Default 1 second. */
  readonly pause?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category errors
 */
export type RunError = ReadOnly | InvalidInput | StoreFailure

/**
 * A handler for the commands of a Schema (a tagged struct, or a union of them), with the options of
 * `CommandStore.execute`: `success` and `failure` say which results are outcomes and how they are stored. Throws
 * `InvalidInput` for bad options, and for a Schema that does not tell its types, as a handler is part of the program.
 *
 * @since 0.1.0
 * @category constructors
 */
export const handler = <
  A extends { readonly _tag: string },
  I extends { readonly _tag: string },
  RS,
  A2,
  E,
  RH,
  Success extends OutcomeSchema = typeof Schema.Void,
  Failure extends OutcomeSchema = typeof Schema.Never
>(
  commands: Schema.Schema<A, I, RS>,
  handle: (command: TypedCommand<A>) => Effect.Effect<Success["Type"], E, RH> & Kept<A2, E, RH, Success>,
  options?: ExecuteOptions<Success, Failure>
): Handler<RS | Exclude<RH, CurrentCommand>> => {
  const definition = defineHandler(commands, handle, options)
  return { [HandlerTypeId]: definition, types: definition.types }
}

/**
 * Defines a worker. Throws `InvalidInput` for bad options.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <const Handlers extends ReadonlyArray<Handler<unknown>>>(
  options: Options<Handlers>
): CommandWorker<Handlers[number] extends Handler<infer R> ? R : never> => {
  const definition = define<Handlers[number] extends Handler<infer R> ? R : never>(options)
  return { [TypeId]: definition, name: definition.name }
}

/**
 * Executes commands until it is interrupted: those that are due now, then each when it is due. Run it in as many
 * processes as you like.
 *
 * 1. Looks for commands of its types that are `received`, have no running lease and are due, those longest due first.
 *    By an index that has no finished commands. What this process creates, unless in a transaction, it sees at once,
 *    and all others within `pollInterval`.
 * 2. Takes one over, as `CommandStore.execute` would, and executes its handler: what holds is documented there. A
 *    command that another process executes is left alone. What a process that died has begun is taken over when its
 *    lease has ended.
 * 3. A success, and a failure that the handler's `failure` knows, is the outcome. After any other end (another failure,
 *    a defect, data that does not fit the Schema) the command stays `received`, and is due again after `pause`. After
 *    the last of `attempts` it is given up: its status is `failed`, which is logged as an error and counted, and
 *    whoever asks for its outcome fails with `CommandDecodeError`. If the last attempt died with its process, the
 *    command is given up when it is found. `CommandStore.update` with `received` opens it again, for one more attempt.
 *
 * While a store is unavailable no command is given up: it waits, also where a handler's error was caused by one
 * (`Errors.isTransient`). Interrupting it interrupts the handlers and gives their leases back. Needs a store that was
 * made by a layer of this package or by `CommandStoreEncoded.make`: a service that was put together by hand is
 * `InvalidInput`.
 *
 * @since 0.1.0
 * @category running
 */
export const run: <R>(self: CommandWorker<R>) => Effect.Effect<never, RunError, R | CommandStore> = (self) =>
  working.run(self[TypeId])

/**
 * Executes the commands that are due now, and those that become so meanwhile, and returns how many of them have an
 * outcome since: for jobs, and for tests, which need not wait for a worker. What failed is due later, and is left.
 *
 * @since 0.1.0
 * @category running
 */
export const catchUp: <R>(self: CommandWorker<R>) => Effect.Effect<number, RunError, R | CommandStore> = (self) =>
  working.catchUp(self[TypeId])
