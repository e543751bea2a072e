/**
 * What is made of the definition of a worker: checked options, and a handler for each type of command, which knows how
 * its outcomes are stored.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import {
  type Command,
  CommandDecodeError,
  type CurrentCommand,
  type ExecuteOptions,
  type OutcomeSchema,
  type TypedCommand
} from "../CommandStore.js"
import type { Handler, Options } from "../CommandWorker.js"
import type { StoreError } from "../Errors.js"
import { timeoutMs } from "../internal/durations.js"
import { tagged, tagsOf } from "../internal/taggedPayload.js"
import {
  array,
  describe,
  fields,
  identifier,
  optionalIdentifier,
  optionalInteger,
  optionalTypes,
  record,
  refuse
} from "../internal/validate.js"
import { anyCommand, type EncodedCommand, type EncodedFilter, type EncodedOpenCommand } from "./CommandStoreEncoded.js"
import type { Resume } from "./execution.js"
import * as input from "./input.js"
import { decode } from "./lift.js"

export const TypeId: unique symbol = Symbol.for("effect-stores/CommandWorker")

export const HandlerTypeId: unique symbol = Symbol.for("effect-stores/CommandWorker/Handler")

/** `gone`: somebody else was faster, so there is nothing to report. */
export type Worked = "succeeded" | "failed" | "gone"

export interface HandlerDefinition<out R> {
  readonly types: ReadonlyArray<string>
  /** One attempt. `begun` is given the command that it is at. Fails with whatever is no outcome. */
  readonly work: (
    resume: Resume,
    open: EncodedOpenCommand,
    begun: (command: EncodedCommand) => void
  ) => Effect.Effect<Worked, unknown, R>
}

export interface Definition<out R> {
  readonly name: string
  readonly handlers: ReadonlyMap<string, HandlerDefinition<R>>
  /** Which commands it executes. */
  readonly filter: EncodedFilter
  readonly concurrency: number
  readonly pollIntervalMs: number
  readonly attempts: number
  readonly pauseMs: number
}

const concurrencyMax = 1_000
const attemptsMax = 1_000_000

/** Throws `InvalidInput`. */
export const defineHandler = <
  A extends { readonly _tag: string },
  I extends { readonly _tag: string },
  RS,
  E,
  RH,
  Success extends OutcomeSchema,
  Failure extends OutcomeSchema
>(
  commands: Schema.Schema<A, I, RS>,
  handle: (command: TypedCommand<A>) => Effect.Effect<Success["Type"], E, RH>,
  options: ExecuteOptions<Success, Failure> | undefined
): HandlerDefinition<RS | Exclude<RH, CurrentCommand>> => {
  if (!Schema.isSchema(commands)) return refuse("commands", `must be a Schema, not ${describe(commands)}`)
  if (typeof handle !== "function") return refuse("handle", `must be a function, not ${describe(handle)}`)
  const types = optionalTypes(tagsOf(commands), "commands")
  if (types === null) return refuse("commands", "must be a tagged struct or a union of them")
  const codec = tagged(commands)
  type Unfit = CommandDecodeError | StoreError
  const how = input.execution<E | Unfit, RS | RH, Success, Failure>(Effect.never, options)
  return {
    types,
    work: (resume, open, begun) => {
      const worked = resume(open, how.leaseMs, (stored) => {
        begun(stored)
        const command = Effect.flatMap(decode.rows([stored]), ([command]) =>
          codec.decode(command as Command, CommandDecodeError.of)
        )
        return { ...how, effect: Effect.flatMap(command, handle) }
      })
      return Effect.map(worked, (outcome): Worked => {
        if (Option.isNone(outcome)) return "gone"
        return Exit.isSuccess(outcome.value) ? "succeeded" : "failed"
      })
    }
  }
}

const keys = ["name", "handlers", "tenantId", "domain", "concurrency", "pollInterval", "attempts", "pause"] as const

const pollIntervalDefault = Duration.seconds(1)
const pauseDefault = Duration.seconds(1)

/** Throws `InvalidInput`. */
export const define = <R>(value: Options<ReadonlyArray<Handler<unknown>>>): Definition<R> => {
  const given = fields(value, "options", keys)
  const { pause = pauseDefault, pollInterval = pollIntervalDefault } = given
  const handlers = new Map<string, HandlerDefinition<R>>()
  for (const [i, handler] of array(given.handlers, "handlers", 1, concurrencyMax).entries()) {
    const { [HandlerTypeId]: definition } = record(handler, `handlers[${i}]`) as Partial<Handler<R>>
    if (definition === undefined) return refuse(`handlers[${i}]`, "must be made by CommandWorker.handler")
    for (const type of definition.types) {
      if (handlers.has(type)) return refuse(`handlers[${i}]`, `is a second one for the type ${type}`)
      handlers.set(type, definition)
    }
  }
  return {
    name: identifier(given.name, "name"),
    handlers,
    filter: {
      ...anyCommand,
      tenantId: optionalIdentifier(given.tenantId, "tenantId"),
      domain: optionalIdentifier(given.domain, "domain"),
      types: optionalTypes([...handlers.keys()], "types of all handlers")
    },
    concurrency: optionalInteger(given.concurrency, "concurrency", 1, 10, concurrencyMax),
    pollIntervalMs: timeoutMs(pollInterval, "pollInterval"),
    attempts: optionalInteger(given.attempts, "attempts", 1, 10, attemptsMax),
    pauseMs: timeoutMs(pause, "pause")
  }
}
