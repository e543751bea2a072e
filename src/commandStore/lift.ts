/**
 * The step from the CommandStore's port to its public service. Here, once for all backends: input is checked, missing
 * fields are filled in, payloads become JSON text and back, repeats are told from clashes, pages become streams.
 * Execution is in `execution.ts`.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Command, CommandStoreShape, DuplicateCommand } from "../CommandStore.js"
import { type InvalidInput, NotFound, type ReadFailure, StoreError, type StoreFailure } from "../Errors.js"
import { Lifted } from "../internal/lifted.js"
import { type Pages, pageAt, pageBytes, pagedStream, pageSize, valuePages } from "../internal/pages.js"
import { writesOf } from "../internal/storeOptions.js"
import * as Telemetry from "../internal/telemetry.js"
import { checked } from "../internal/validate.js"
import { unsealed, utc, uuid } from "../internal/values.js"
import type { Encoded, EncodedCommand, EncodedFilter, Options } from "./CommandStoreEncoded.js"
import { clashOf, make as makeExecution } from "./execution.js"
import * as input from "./input.js"

/** Rows deleted by one statement: bounds how long its locks are held. */
const pruneBatchMax = 1000

const lifted = new Lifted<CommandStoreShape, Encoded, Options>("CommandStore")

export const lift = (encoded: Encoded, options: Options): CommandStoreShape =>
  lifted.add(serviceOf(encoded, options), encoded, options)

export const relift = <E, R>(
  service: CommandStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
): Effect.Effect<CommandStoreShape, E | InvalidInput, R> =>
  Effect.map(lifted.rewrap(service, wrap), ({ encoded, options }) => lift(encoded, options))

const serviceOf = (encoded: Encoded, options: Options): CommandStoreShape => {
  const observe = Telemetry.make("CommandStore", options.system)
  const instanceId = options.instanceId ?? null
  const execute = makeExecution(encoded)

  const write = writesOf(observe, options.readOnly)

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
          () => uuid(id, "id"),
          (id) =>
            Effect.flatMap(encoded.get(id), (row) => (row === null ? Effect.succeedNone : Effect.asSome(decode(row))))
        )
      ),

    list: (listOptions) =>
      observe.stream(
        "list",
        pagedStream(
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
          (request) => {
            const { filter } = request
            const page = pageAt(request, Number.MAX_SAFE_INTEGER, (range) => encoded.list({ ...range, filter }))
            return Effect.flatMap(page, ({ items, next }) =>
              Effect.map(decodeAll(Effect.succeed(items)), (commands) => ({ commands, next }))
            )
          }
        )
      ),

    distinct: (field, filter) =>
      observe.stream(
        "distinct",
        pagedStream(
          checked(
            () => ({ field: input.distinctField(field), filter: input.filter(filter) }),
            (request) => valuePages((after, limit) => encoded.distinct({ ...request, after, limit }))
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

    delete: (id) => write("delete", () => checked(() => uuid(id, "id"), encoded.delete)),

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
): Pages<Command, ReadFailure> => {
  const { direction, filter, limit } = request
  const bounds = { limit: Math.min(pageSize, limit), maxBytes: pageBytes }
  return Effect.flatMap(encoded.list({ ...range, direction, filter, ...bounds }), ({ items: rows, more }) =>
    Effect.map(decodeAll(Effect.succeed(rows)), (items) => {
      const last = items[items.length - 1]
      if (last === undefined || !more || items.length === limit) return { items, next: undefined }
      const rest = direction === "forward" ? { after: last.position } : { through: last.position - 1 }
      return { items, next: listPage(encoded, { ...request, limit: limit - items.length }, { ...range, ...rest }) }
    })
  )
}

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
