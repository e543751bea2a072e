/**
 * The step from the CommandStore's port to its public service. Here, once for all backends: input is checked, what was
 * left out is filled in, payloads become JSON text and back, repeats are told from clashes, pages become streams.
 * Execution is in `commandExecution`.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Command, CommandStoreShape, DuplicateCommand } from "../CommandStore.js"
import type { Encoded, EncodedCommand, EncodedFilter, Options } from "../CommandStoreEncoded.js"
import { NotFound, ReadOnly, StoreError, type StoreFailure } from "../Errors.js"
import { clashOf, make as makeExecution } from "./commandExecution.js"
import * as input from "./commandStoreInput.js"
import { cursor, utc } from "./eventStoreInput.js"
import { hasNext, type Pages, pageSize, streamOf } from "./pages.js"
import * as Telemetry from "./telemetry.js"
import { checked } from "./validate.js"

/** Of one statement: bounds how long its locks are held. */
const pruneBatchMax = 1000

export const lift = (encoded: Encoded, options: Options): CommandStoreShape => {
  const observe = Telemetry.make("CommandStore", options.system)
  const instanceId = options.instanceId ?? null
  const execute = makeExecution(encoded)

  const write = <A, E, R>(
    name: string,
    body: (nowMs: number) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | ReadOnly, R> =>
    options.readOnly ? Effect.fail(new ReadOnly({ operation: name })) : observe.effect(name, body)

  return {
    create: (command) =>
      write("create", (nowMs) =>
        checked(
          () => input.newCommand(command, { nowMs, instanceId }),
          (command) =>
            Effect.flatMap(
              encoded.create(command, 0),
              (outcome): Effect.Effect<Command, DuplicateCommand | StoreError> => {
                const clash = outcome._tag === "Exists" ? clashOf(command, outcome.command) : undefined
                return clash === undefined ? decode(outcome.command) : Effect.fail(clash)
              }
            )
        )
      ),

    execute: (command, effect, executeOptions) =>
      write("execute", (nowMs) =>
        checked(
          () => ({
            command: input.newCommand(command, { nowMs, instanceId }),
            execution: input.execution(effect, executeOptions)
          }),
          ({ command, execution }) => execute(command, execution)
        )
      ),

    get: (id) =>
      observe.effect("get", () =>
        checked(
          () => input.commandId(id, "id"),
          (id) =>
            Effect.flatMap(encoded.get(id), (row) => (row === null ? Effect.succeedNone : Effect.asSome(decode(row))))
        )
      ),

    list: (listOptions) =>
      observe.stream(
        "list",
        streamOf(
          checked(
            () => input.listOptions(listOptions),
            (request) => listPage(encoded, request, { after: 0, through: Number.MAX_SAFE_INTEGER })
          )
        )
      ),

    page: (pageOptions) =>
      observe.effect("page", () =>
        checked(
          () => input.pageOptions(pageOptions),
          ({ at, direction, filter, limit }) =>
            Effect.map(
              decodeAll(
                encoded.list({
                  after: direction === "forward" ? (at ?? 0) : 0,
                  through: direction === "backward" && at !== undefined ? at - 1 : Number.MAX_SAFE_INTEGER,
                  direction,
                  filter,
                  limit: limit + 1
                })
              ),
              (commands) => ({
                commands: commands.slice(0, limit),
                next:
                  commands.length > limit
                    ? Option.some(cursor(direction, (commands[limit - 1] as Command).position))
                    : Option.none()
              })
            )
        )
      ),

    distinct: (field, filter) =>
      observe.stream(
        "distinct",
        streamOf(
          checked(
            () => ({ field: input.distinctField(field), filter: input.filter(filter) }),
            (request) => distinctPage(encoded, request, null)
          )
        )
      ),

    count: (filter) => observe.effect("count", () => checked(() => input.filter(filter), encoded.count)),

    info: observe.effect("info", () =>
      Effect.flatMap(encoded.info, ({ lastCommand, ...info }) =>
        Effect.map(decodeAll(Effect.succeed(lastCommand === null ? [] : [lastCommand])), ([command]) => ({
          ...info,
          readOnly: options.readOnly ?? false,
          lastCommand: Option.fromNullable(command)
        }))
      )
    ),

    update: (id, changes) =>
      write("update", (nowMs) =>
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

    delete: (id) => write("delete", () => checked(() => input.commandId(id, "id"), encoded.delete)),

    prune: (pruneOptions) =>
      write("prune", () =>
        checked(
          () => input.pruneOptions(pruneOptions),
          (filter) => prune(encoded, filter, 0)
        )
      ),

    reset: write("reset", () => encoded.reset)
  }
}

const prune = (encoded: Encoded, filter: EncodedFilter, before: number): Effect.Effect<number, StoreFailure> =>
  Effect.flatMap(encoded.prune(filter, pruneBatchMax), (deleted) =>
    deleted < pruneBatchMax ? Effect.succeed(before + deleted) : prune(encoded, filter, before + deleted)
  )

const listPage = (
  encoded: Encoded,
  request: input.ListRequest,
  range: { readonly after: number; readonly through: number }
): Pages<Command, StoreFailure> => {
  const { direction, filter, limit } = request
  const size = Math.min(pageSize, limit)
  return Effect.map(decodeAll(encoded.list({ ...range, direction, filter, limit: size })), (items) => {
    const last = items[items.length - 1]
    if (last === undefined || !hasNext(items.length, size, limit)) return { items, next: undefined }
    const rest = direction === "forward" ? { after: last.position } : { through: last.position - 1 }
    return { items, next: listPage(encoded, { ...request, limit: limit - items.length }, { ...range, ...rest }) }
  })
}

const distinctPage = (
  encoded: Encoded,
  request: Pick<Parameters<Encoded["distinct"]>[0], "field" | "filter">,
  after: string | null
): Pages<string, StoreFailure> =>
  Effect.map(encoded.distinct({ ...request, after, limit: pageSize }), (values) => {
    const last = values[values.length - 1]
    const more = last !== undefined && values.length === pageSize
    return { items: [...values], next: more ? distinctPage(encoded, request, last) : undefined }
  })

const decodeAll = <E>(
  rows: Effect.Effect<ReadonlyArray<EncodedCommand>, E>
): Effect.Effect<Array<Command>, E | StoreError> => Effect.flatMap(rows, (rows) => Effect.forEach(rows, decode))

const decode = (row: EncodedCommand): Effect.Effect<Command, StoreError> =>
  Effect.try({
    try: () => ({
      id: row.id,
      tenantId: row.tenantId,
      domain: row.domain,
      type: row.type,
      data: JSON.parse(unsealed(row.data, row.keyId)),
      metadata: JSON.parse(unsealed(row.metadata, row.keyId)),
      instanceId: row.instanceId ?? undefined,
      createdAt: utc(row.createdAt),
      position: row.position,
      status: row.status,
      outcome: row.outcome === null ? Option.none() : Option.some(JSON.parse(unsealed(row.outcome, row.outcomeKeyId))),
      attempts: row.attempts,
      finishedAt: row.finishedAt === null ? undefined : utc(row.finishedAt)
    }),
    catch: (cause) => new StoreError({ operation: `decoding command ${row.id}`, cause })
  })

const unsealed = (text: string, keyId: string | null): string => {
  if (keyId !== null) throw new Error(`it is sealed with key ${keyId}, and the store was opened without keys`)
  return text
}
