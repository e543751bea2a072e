/**
 * The contract of the CommandStore: model, errors, the service tag whose members carry the semantics, what a running
 * command provides to its effect, and `forSchema`, which binds an application's Schema of commands to it.
 * `CommandStoreEncoded` has what a backend implements.
 *
 * A **command** is a request to change something, known by its id. The store keeps what was asked, whether it was done,
 * and its outcome, so that asking again returns the same outcome and changes nothing. A **lease** is the time for which
 * one process has a command to itself; an **attempt** is one lease of it, and what is done under it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import { typedCommands } from "./commandStore/typed.js"
import type { InvalidInput, NotFound, ReadFailure, ReadOnly, StoreFailure } from "./Errors.js"
import type { Direction, StreamId } from "./EventStore.js"
import type { Json, JsonObject } from "./Json.js"

/**
 * `received`: not done yet, or running. `succeeded`, `failed`: done, with that outcome.
 *
 * @since 0.1.0
 * @category models
 */
export type Status = "received" | "succeeded" | "failed"

/**
 * A command as it is stored. `data` and `metadata` are exactly the JSON that was given.
 *
 * @since 0.1.0
 * @category models
 */
export interface Command {
  readonly id: string
  readonly tenantId: string
  readonly domain: string
  readonly type: string
  readonly data: Json
  /** Request context, correlation, causation, trace. */
  readonly metadata: JsonObject
  /** The process that stored it. */
  readonly instanceId: string | undefined
  readonly createdAt: DateTime.Utc
  /** Workers (`CommandWorker`) leave it alone before; absent: they need not wait. A failed attempt sets it anew. */
  readonly dueAt: DateTime.Utc | undefined
  /** Its place in the log: unique and increasing, not dense; never rely on a particular value. */
  readonly position: number
  readonly status: Status
  /** The encoded outcome: absent while `received`, and for an outcome of `undefined`. */
  readonly outcome: Option.Option<Json>
  /** How often its execution has begun, by `execute` or by a worker. */
  readonly attempts: number
  readonly finishedAt: DateTime.Utc | undefined
}

/**
 * A command to store. Fields left out are filled in: `metadata` with `{}`, `instanceId` with the layer's, `createdAt`
 * from the Clock. `id` is a UUID in canonical lower-case form. The caller gives it, so that a repeat can be recognised
 * (`Uuid.derived` makes one from a foreign key).
 *
 * @since 0.1.0
 * @category models
 */
export interface NewCommand {
  readonly id: string
  readonly tenantId: string
  readonly domain: string
  readonly type: string
  readonly data: unknown
  readonly metadata?: { readonly [key: string]: unknown } | undefined
  readonly instanceId?: string | undefined
  /** Years 0 to 9999, whole milliseconds. */
  readonly createdAt?: DateTime.Utc | undefined
  /**
   * A worker (`CommandWorker`) executes it then, and not before: a time-out, a reminder. `execute` does not wait for
   * it. It is no part of what tells a repeat from a clash: that of the first one stays. As `createdAt`.
   */
  readonly dueAt?: DateTime.Utc | undefined
}

/**
 * Which commands to read: all given conditions must hold. Without any, all commands.
 *
 * @since 0.1.0
 * @category models
 */
export interface Filter {
  readonly tenantId?: string | undefined
  readonly domain?: string | undefined
  /** One of these types; at least one. */
  readonly types?: ReadonlyArray<string> | undefined
  /** One of these; at least one. */
  readonly statuses?: ReadonlyArray<Status> | undefined
  /** Created at or after. */
  readonly createdFrom?: DateTime.Utc | undefined
  /** Created before. */
  readonly createdUntil?: DateTime.Utc | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ListOptions {
  readonly filter?: Filter | undefined
  /** From the oldest, or from the newest. Default `forward`. */
  readonly direction?: Direction | undefined
  readonly limit?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PageOptions {
  readonly filter?: Filter | undefined
  readonly direction?: Direction | undefined
  /** The `next` of the page before; absent for the first page. Use it with the same filter and direction. */
  readonly cursor?: string | undefined
  /**
   * 1 to 1,000; default 100. A page of large commands ends earlier, at about 1 MiB: when it has fewer than `limit`,
   * only the absence of `next` says that no more follow.
   */
  readonly limit?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Page {
  readonly commands: ReadonlyArray<Command>
  /** Where the next page starts; absent when there is none. */
  readonly next: Option.Option<string>
}

/**
 * The fields whose distinct values can be listed.
 *
 * @since 0.1.0
 * @category models
 */
export type DistinctField = "tenantId" | "domain" | "type" | "status" | "instanceId"

/**
 * @since 0.1.0
 * @category models
 */
export interface Info {
  /** `InMemory`, `Sqlite`, `Pg`, or what a backend of your own calls itself. */
  readonly backend: string
  /** Where the data is, with secrets masked. */
  readonly connection: string
  readonly readOnly: boolean
  readonly commands: number
  readonly lastCommand: Option.Option<Command>
}

/**
 * What an operator may change of a command. A `status` is set with its `outcome` (default: none); `received` opens the
 * command for execution again.
 *
 * @since 0.1.0
 * @category models
 */
export interface Changes {
  readonly data?: unknown
  readonly metadata?: { readonly [key: string]: unknown } | undefined
  readonly status?: Status | undefined
  readonly outcome?: unknown
}

/**
 * What `prune` deletes: commands created before a moment, by default only those that are done.
 *
 * @since 0.1.0
 * @category models
 */
export interface PruneOptions extends Omit<Filter, "createdUntil"> {
  readonly createdUntil: DateTime.Utc
  /** Default `["succeeded", "failed"]`. */
  readonly statuses?: ReadonlyArray<Status> | undefined
}

/**
 * A Schema of outcomes: synchronous, without services.
 *
 * @since 0.1.0
 * @category models
 */
export type OutcomeSchema = Schema.Schema.AnyNoContext | Schema.Schema<never, unknown> | Schema.Schema<never>

/**
 * Refuses an effect whose result the Schema of outcomes would not keep, such as a number without `success`: a repeat
 * would return `undefined` for it. On its own, TypeScript takes an effect of any result for one of `void`.
 *
 * @since 0.1.0
 * @category models
 */
export type Kept<A, E, R, Success extends OutcomeSchema> = Effect.Effect<A, E, R> &
  ([A] extends [Success["Type"]] ? unknown : { readonly "options.success must be given to keep this result": never })

/**
 * How an outcome is stored, and how long an execution has the command to itself.
 *
 * @since 0.1.0
 * @category models
 */
export interface ExecuteOptions<
  Success extends OutcomeSchema = typeof Schema.Void,
  Failure extends OutcomeSchema = typeof Schema.Never
> {
  /** How the result is stored. Default `Schema.Void`: it is not stored, and the effect returns `void`. */
  readonly success?: Success | undefined
  /**
   * Which failures are outcomes, and how they are stored. Any other failure (a backend that is down, a conflict) leaves
   * the command `received`, and a repeat tries again. Default: no failure is an outcome.
   */
  readonly failure?: Failure | undefined
  /** How long a dead process keeps the command from others; renewed while it runs. Default 30 seconds. */
  readonly lease?: Duration.DurationInput | undefined
  /**
   * Runs the effect and the write of its outcome in one transaction of the database that this store is on: what the
   * effect writes there, events of an EventStore on the same database included, is committed with the outcome or not at
   * all. A failure that is an outcome rolls it back as well. In memory these are stores on one `MemoryDatabase`.
   * Default false.
   */
  readonly transaction?: boolean | undefined
}

/**
 * The id of the command belongs to one with other content; nothing was changed and nothing ran.
 *
 * @since 0.1.0
 * @category errors
 */
export class DuplicateCommand extends Schema.TaggedError<DuplicateCommand>("effect-stores/DuplicateCommand")(
  "DuplicateCommand",
  { id: Schema.String, why: Schema.String }
) {
  override get message(): string {
    return `command ${this.id} exists already: ${this.why}`
  }
}

/**
 * The stored `data` or `outcome` of a command does not fit the Schema; `cause` is the `ParseError`.
 *
 * @since 0.1.0
 * @category errors
 */
export class CommandDecodeError extends Schema.TaggedError<CommandDecodeError>("effect-stores/CommandDecodeError")(
  "CommandDecodeError",
  { id: Schema.String, type: Schema.String, part: Schema.Literal("data", "outcome"), cause: Schema.Defect }
) {
  /** Of the `data` of this command; `cause` is the `ParseError`. */
  static of(this: void, { id, type }: Command, cause: unknown): CommandDecodeError {
    return new CommandDecodeError({ id, type, part: "data", cause })
  }

  override get message(): string {
    const why = this.cause instanceof Error ? this.cause.message : String(this.cause)
    const what = ParseResult.isParseError(this.cause) ? "does not fit the schema" : "cannot be read"
    return `the ${this.part} of command ${this.id} of type ${this.type} ${what}:\n${why}`
  }
}

/**
 * @since 0.1.0
 * @category errors
 */
export type ReadError = InvalidInput | ReadFailure

/**
 * @since 0.1.0
 * @category errors
 */
export type ExecuteError = DuplicateCommand | CommandDecodeError | ReadOnly | InvalidInput | StoreFailure

/**
 * The log of commands, the same on every backend.
 *
 * @since 0.1.0
 * @category tags
 */
export class CommandStore extends Context.Tag("effect-stores/CommandStore")<CommandStore, CommandStoreShape>() {}

/**
 * @since 0.1.0
 * @category models
 */
export interface CommandStoreShape {
  /**
   * Stores a command as `received`, and returns what is stored. A repeat returns the command as it is now; the same id
   * with another `tenantId`, `domain`, `type` or `data`, as values, fails with `DuplicateCommand`. Metadata may differ,
   * since a retry has another trace; those of the first one stay. Data that `update` has changed since is not compared.
   */
  readonly create: (
    command: NewCommand
  ) => Effect.Effect<Command, DuplicateCommand | ReadOnly | InvalidInput | StoreFailure>

  /**
   * Runs the effect once per command id, whoever asks and how often: fibers, processes, after restarts. Repeats return
   * the stored outcome, a success as a success and a failure as the failure.
   *
   * 1. Stores the command (or finds it, compared as in `create`) and takes its lease. If it is done, returns its
   *    outcome. While another attempt has the lease, waits for its outcome, or for the lease to end, and then takes
   *    over. A claim whose result was lost is recognised by a token of the attempt.
   * 2. Runs the effect, with `CurrentCommand` in its context, and renews the lease meanwhile.
   * 3. Stores the outcome: a success, or a failure that `failure` knows. Any other end of the effect (another failure,
   *    a defect, an interrupt) releases the lease and is passed on; the command stays `received`.
   *
   * **Outcomes as JSON.** A Schema none of whose values can be JSON (`Schema.DateFromSelf`) is `InvalidInput` before
   * anything runs. Properties that are `undefined` are left out, and -0 is stored as 0. An outcome that cannot be
   * stored (`NaN`, a value that does not fit its Schema or has fields that the Schema does not know, more than 16 MiB)
   * closes the command too, because its effect is done: the caller gets the value or the failure, a warning is logged,
   * the reason is stored instead, and repeats fail with `CommandDecodeError`.
   *
   * **What holds.** A command has at most one outcome, whatever happens. While no process dies, is blocked, or is cut
   * off from the store for longer than the lease, its effect ends at most once with an outcome, and no two run at the
   * same time. Otherwise the next caller runs the effect again from its beginning, and what the first attempt had done
   * by then stays done. If both get to their end, the outcome is that of the first to finish, and the other caller gets
   * it too. So either
   * - make what it does idempotent: appends through `Aggregate` in the effect are, because their event ids are derived
   *   from the command's (`nextEventIds`). Appends through `EventStore.append` or `Aggregate.events.append` get no such
   *   ids, and no command id: use `Aggregate.append` or `Aggregate.execute`, or take both from `CurrentCommand`; or
   * - set `transaction`: then everything that the effect writes to this database is rolled back with it, and of several
   *   attempts only the first to finish can commit.
   *
   * Leases run on the clock of the backend. A paused process may go on for a moment after its lease has ended, before
   * it notices and its effect is interrupted. An effect that keeps the event loop busy for longer than its lease is
   * overtaken by other callers: a warning is logged, and each next attempt of the same call has twice the lease, up to
   * 24 hours, so that one gets to its end. If the result of COMMIT was lost, the store finds out: what was committed is
   * returned, otherwise it fails with `StoreUnavailable`. A failure with a defect beside it is no outcome. Whoever is
   * interrupted while claiming is so at once, and afterwards as soon as the effect has ended; giving back the lease may
   * take a second more, and goes on in the background if the store hangs. The write of an outcome is not interrupted.
   *
   * To execute a command in its own effect, directly, through other commands of this store or in a fiber that was
   * forked there, would be to wait for oneself: `InvalidInput`, which names the chain of commands. Two effects that
   * execute each other's command at the same time are not told; they wait until one of their callers times out.
   */
  readonly execute: <
    A,
    E,
    R,
    Success extends OutcomeSchema = typeof Schema.Void,
    Failure extends OutcomeSchema = typeof Schema.Never
  >(
    command: NewCommand,
    effect: Effect.Effect<Success["Type"], E, R> & Kept<A, E, R, Success>,
    options?: ExecuteOptions<Success, Failure>
  ) => Effect.Effect<Success["Type"], E | Failure["Type"] | ExecuteError, Exclude<R, CurrentCommand>>

  /**
   * Closes a command that is not done and that nobody executes, so that no worker executes it any more: a time-out
   * whose reason is gone. Returns whether this has closed it; false if it is done, is being executed, or is not there.
   * Its status is `failed` then, and whoever asks for its outcome fails with `CommandDecodeError`.
   */
  readonly cancel: (id: string) => Effect.Effect<boolean, ReadOnly | InvalidInput | StoreFailure>

  /** The command with this id. */
  readonly get: (id: string) => Effect.Effect<Option.Option<Command>, ReadError>

  /**
   * Commands in order of position, or from the newest, page by page in constant memory, up to the present. A command
   * whose transaction commits while the list is read may be left out.
   */
  readonly list: (options?: ListOptions) => Stream.Stream<Command, ReadError>

  /**
   * One page of the log by keyset: it costs the same however far it is, and commands stored meanwhile neither shift nor
   * repeat any.
   */
  readonly page: (options?: PageOptions) => Effect.Effect<Page, ReadError>

  /** The distinct values of a field among the commands of the filter, in order of their UTF-8 bytes. */
  readonly distinct: (field: DistinctField, filter?: Filter) => Stream.Stream<string, ReadError>

  /** How many commands match the filter. */
  readonly count: (filter?: Filter) => Effect.Effect<number, ReadError>

  /** What this store is, and how much it holds. It counts rows, so do not use it on hot paths. */
  readonly info: Effect.Effect<Info, ReadFailure>

  /**
   * Changes a command, for operators. A running execution goes on, and its outcome is refused if this sets one. If this
   * opens the command again (`received`), a second execution may begin beside the first, and the first to finish gives
   * the outcome. Of new data the store remembers that it is new, and nothing of the old: a repeat is one still.
   */
  readonly update: (
    id: string,
    changes: Changes
  ) => Effect.Effect<void, NotFound | ReadOnly | InvalidInput | StoreFailure>

  /**
   * Deletes a command, and the record that it was done; returns whether there was one. Do not delete a command that is
   * being executed: it may then be executed a second time. What is created with its id afterwards is another command,
   * and an attempt at the deleted one changes nothing of it.
   */
  readonly delete: (id: string) => Effect.Effect<boolean, ReadOnly | InvalidInput | StoreFailure>

  /**
   * Deletes by age and status, in batches, and returns how many. A deleted command runs again if it is repeated: keep
   * commands for longer than repeats can arrive.
   */
  readonly prune: (options: PruneOptions) => Effect.Effect<number, ReadOnly | InvalidInput | StoreFailure>

  /** Deletes all commands of this store, for tests. */
  readonly reset: Effect.Effect<void, ReadOnly | StoreFailure>
}

/**
 * The command that is being executed, as a service for its effect.
 *
 * @since 0.1.0
 * @category tags
 */
export class CurrentCommand extends Context.Tag("effect-stores/CurrentCommand")<
  CurrentCommand,
  {
    readonly id: string
    /** 1 for the first. A later attempt may find what an earlier one did before it died. */
    readonly attempt: number
    /**
     * Ids for the next events that the command appends to a stream: the same ids when the command runs again and
     * appends to that stream in the same order.
     */
    readonly nextEventIds: (stream: StreamId) => (index: number) => string
    /** Returns unused ids, so that another attempt gets the same ones; does nothing if later ids were given. */
    readonly returnEventIds: (stream: StreamId, ids: (index: number) => string) => void
  }
>() {}

/**
 * A command that was read as a value of an application's Schema.
 *
 * @since 0.1.0
 * @category schema
 */
export interface TypedCommand<A> extends Omit<Command, "data"> {
  readonly data: A
}

/**
 * The fields of a typed command beside its content.
 *
 * @since 0.1.0
 * @category schema
 */
export type Envelope = Omit<NewCommand, "type" | "data">

/**
 * The CommandStore seen through the Schema of an application's commands, as functions that need the store.
 *
 * @since 0.1.0
 * @category schema
 */
export interface TypedCommands<A, R> {
  readonly encode: (command: A, envelope: Envelope) => Effect.Effect<NewCommand, InvalidInput, R>
  readonly decode: (command: Command) => Effect.Effect<TypedCommand<A>, CommandDecodeError, R>
  readonly create: (
    command: A,
    envelope: Envelope
  ) => Effect.Effect<Command, DuplicateCommand | ReadOnly | InvalidInput | StoreFailure, CommandStore | R>
  readonly execute: <
    A2,
    E,
    R2,
    Success extends OutcomeSchema = typeof Schema.Void,
    Failure extends OutcomeSchema = typeof Schema.Never
  >(
    command: A,
    envelope: Envelope,
    effect: Effect.Effect<Success["Type"], E, R2> & Kept<A2, E, R2, Success>,
    options?: ExecuteOptions<Success, Failure>
  ) => Effect.Effect<
    Success["Type"],
    E | Failure["Type"] | ExecuteError,
    CommandStore | R | Exclude<R2, CurrentCommand>
  >
  /**
   * Commands in the order in which they were stored, in constant memory: to run them again, elsewhere or differently.
   */
  readonly replay: (filter?: Filter) => Stream.Stream<TypedCommand<A>, ReadError | CommandDecodeError, CommandStore | R>
}

/**
 * Binds a Schema of commands (a tagged struct, or a union of them) to the store. A command's `_tag` becomes its `type`,
 * its other fields, encoded, its `data`. Fields that the Schema does not know are refused with `InvalidInput`.
 *
 * @since 0.1.0
 * @category schema
 */
export const forSchema = <A extends { readonly _tag: string }, I extends { readonly _tag: string }, R>(
  schema: Schema.Schema<A, I, R>
): TypedCommands<A, R> => typedCommands(schema, { tag: CommandStore, decodeError: CommandDecodeError.of })
