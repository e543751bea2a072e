/**
 * The step from the CommandStore's port to its public service. Here, once for all backends: input is checked, missing
 * fields are filled in, payloads become JSON text and back, repeats are told from clashes, pages become streams.
 * Execution is in `execution.ts`.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Command, CommandStoreShape, DuplicateCommand } from "../CommandStore.js"
import { type InvalidInput, NotFound, type StoreError, type StoreFailure } from "../Errors.js"
import { unsealed, utc } from "../internal/encoding.js"
import { Hints } from "../internal/Hints.js"
import { Lifted, withoutKeys } from "../internal/lifted.js"
import * as logs from "../internal/logs.js"
import { pagedStream, rangePages } from "../internal/pages.js"
import * as Telemetry from "../internal/telemetry.js"
import { checked, uuid } from "../internal/validate.js"
import type { Encoded, EncodedCommand, EncodedFilter, Options } from "./CommandStoreEncoded.js"
import { clashOf, make as makeExecution, type Resume } from "./execution.js"
import * as input from "./input.js"
import { closed } from "./outcome.js"

/** Rows deleted by one statement: bounds how long its locks are held. */
const pruneBatchMax = 1000

const lifted = new Lifted<CommandStoreShape, Encoded, Options>("CommandStore")

export const lift = (port: Encoded, options: Options): CommandStoreShape => {
  const { encoded, look } = withoutKeys("the CommandStore", port, ["create", "finish", "close", "update"])
  return lifted.add(serviceOf(encoded, options), port, options, look)
}

/** What a worker needs of a store beside its contract. */
export interface Workable {
  readonly encoded: Encoded
  readonly resume: Resume
  readonly readOnly: boolean
  /** Signalled when this process has created a command, or made one due at another time. */
  readonly hints: Hints
}

const workables = new WeakMap<CommandStoreShape, Workable>()

/** Undefined for a service that was made by hand. */
export const workableOf = (service: CommandStoreShape): Workable | undefined => workables.get(service)

/** Ends a command that nobody executes. False if somebody does, or it is done, or gone. */
export const close = (
  encoded: Encoded,
  { id, position }: { readonly id: string; readonly position: number | null },
  why: string
): Effect.Effect<boolean, StoreFailure> =>
  Effect.clockWith((clock) =>
    encoded.close({
      id,
      position,
      status: "failed",
      outcome: closed(why),
      outcomeKeyId: null,
      finishedAt: clock.unsafeCurrentTimeMillis()
    })
  )

export const relift = <E, R>(
  service: CommandStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
): Effect.Effect<CommandStoreShape, E | InvalidInput, R> =>
  Effect.map(lifted.rewrap(service, wrap), ({ encoded, options }) => lift(encoded, options))

const serviceOf = (encoded: Encoded, options: Options): CommandStoreShape => {
  const observe = Telemetry.make("CommandStore", options)
  const instanceId = options.instanceId ?? null
  const { execute, resume } = makeExecution(encoded)
  const hints = new Hints()
  const queries = logs.queries({
    observe,
    decode,
    input,
    through: () => Effect.succeed(Number.MAX_SAFE_INTEGER),
    range: encoded.list,
    encoded
  })

  const service: CommandStoreShape = {
    create: (command) =>
      observe.write("create", (nowMs, span) =>
        checked(
          () => input.newCommand(command, { nowMs, instanceId }),
          (command) => {
            Telemetry.describe(span, { domain: command.domain, type: command.type })
            return Effect.flatMap(
              encoded.create(command, null),
              (outcome): Effect.Effect<Command, DuplicateCommand | StoreError> => {
                const clash = outcome._tag === "Exists" ? clashOf(command, outcome) : undefined
                if (outcome._tag === "Created") hints.signal()
                return clash === undefined
                  ? Effect.map(decode.rows([outcome.command]), ([command]) => command as Command)
                  : Effect.fail(clash)
              }
            )
          }
        )
      ),

    execute: (command, effect, executeOptions) =>
      observe.write("execute", (nowMs, span) =>
        checked(
          () => ({
            command: input.newCommand(command, { nowMs, instanceId }),
            execution: input.execution(effect, executeOptions)
          }),
          ({ command, execution }) => {
            Telemetry.describe(span, { domain: command.domain, type: command.type })
            return execute(command, execution, (attempt) => Telemetry.describe(span, { attempt }))
          }
        )
      ),

    cancel: (id) =>
      observe.write("cancel", () =>
        checked(
          () => uuid(id, "id"),
          // Without reading it: nobody may be able to any more.
          (id) => close(encoded, { id, position: null }, "cancelled")
        )
      ),

    get: queries.get,

    list: (listOptions) =>
      observe.stream("list", (span) =>
        pagedStream(
          checked(
            () => input.listOptions(listOptions),
            ({ direction, filter, limit }) => {
              Telemetry.describe(span, {
                domain: filter.domain ?? undefined,
                type: filter.types === null ? undefined : Telemetry.names(filter.types)
              })
              return rangePages(
                (range) => decode.page(encoded.list({ ...range, direction, filter })),
                { after: 0, through: Number.MAX_SAFE_INTEGER },
                limit,
                (range, { position }) =>
                  direction === "forward" ? { ...range, after: position } : { ...range, through: position - 1 }
              )
            }
          )
        )
      ),

    page: (pageOptions) => Effect.map(queries.page(pageOptions), ({ items, next }) => ({ commands: items, next })),

    distinct: queries.distinct,

    count: queries.count,

    info: observe.effect("info", () =>
      Effect.flatMap(encoded.info, ({ lastCommand, ...info }) =>
        Effect.map(decode.row(lastCommand), (lastCommand) => ({
          ...info,
          readOnly: options.readOnly ?? false,
          lastCommand
        }))
      )
    ),

    update: (id, changes) =>
      observe.write("update", (nowMs) =>
        checked(
          () => input.update(id, changes),
          ({ status, ...request }) =>
            Effect.flatMap(
              encoded.update({
                ...request,
                keyId: null,
                status:
                  status === null
                    ? null
                    : { ...status, outcomeKeyId: null, finishedAt: status.status === "received" ? null : nowMs }
              }),
              (found) => (found ? Effect.void : Effect.fail(new NotFound({ what: `command ${request.id}` })))
            )
        )
      ),

    delete: (id) => observe.write("delete", () => checked(() => uuid(id, "id"), encoded.delete)),

    prune: (pruneOptions) =>
      observe.write("prune", () =>
        checked(
          () => input.pruneOptions(pruneOptions),
          (filter) => prune(encoded, filter, 0)
        )
      ),

    reset: observe.write("reset", () => encoded.reset)
  }
  workables.set(service, { encoded, resume, readOnly: options.readOnly ?? false, hints })
  return service
}

const prune = (encoded: Encoded, filter: EncodedFilter, before: number): Effect.Effect<number, StoreFailure> =>
  Effect.flatMap(encoded.prune(filter, pruneBatchMax), (deleted) =>
    deleted < pruneBatchMax ? Effect.succeed(before + deleted) : prune(encoded, filter, before + deleted)
  )

export const decode = logs.decoder(
  "command",
  (row: EncodedCommand): Command => ({
    id: row.id,
    tenantId: row.tenantId,
    domain: row.domain,
    type: row.type,
    data: JSON.parse(unsealed(row.data, row.keyId)),
    metadata: JSON.parse(unsealed(row.metadata, row.keyId)),
    instanceId: row.instanceId ?? undefined,
    createdAt: utc(row.createdAt),
    dueAt: row.dueAt === null ? undefined : utc(row.dueAt),
    position: row.position,
    status: row.status,
    outcome: row.outcome === null ? Option.none() : Option.some(JSON.parse(unsealed(row.outcome, row.outcomeKeyId))),
    attempts: row.attempts,
    finishedAt: row.finishedAt === null ? undefined : utc(row.finishedAt)
  })
)
