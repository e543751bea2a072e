/**
 * Checks of everything that callers pass to the CommandStore, and its encoded form. They throw `InvalidInput` (see
 * `validate.checked`) and return fresh values.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { DistinctField, ExecuteOptions, OutcomeSchema, Status } from "../CommandStore.js"
import type { Direction } from "../EventStore.js"
import { optionalLeaseMs } from "../internal/durations.js"
import { direction, pageRequest } from "../internal/pages.js"
import {
  array,
  type Defaults,
  describe,
  fields,
  identifier,
  metadata,
  oneOf,
  optionalIdentifier,
  optionalInteger,
  optionalTime,
  optionalTypes,
  options,
  payload,
  refuse,
  time,
  uuid
} from "../internal/validate.js"
import type { EncodedFilter, EncodedNewCommand } from "./CommandStoreEncoded.js"
import { codec, type OutcomeCodec } from "./outcome.js"

const statuses = ["received", "succeeded", "failed"] as const

const newCommandKeys = [
  "id",
  "tenantId",
  "domain",
  "type",
  "data",
  "metadata",
  "instanceId",
  "createdAt",
  "dueAt"
] as const

export const newCommand = (value: unknown, defaults: Defaults): EncodedNewCommand => {
  const command = fields(value, "command", newCommandKeys)
  return {
    id: uuid(command.id, "command.id"),
    tenantId: identifier(command.tenantId, "command.tenantId"),
    domain: identifier(command.domain, "command.domain"),
    type: identifier(command.type, "command.type"),
    data: payload(command.data, "command.data"),
    metadata: metadata(command.metadata, "command.metadata"),
    keyId: null,
    instanceId:
      command.instanceId === undefined ? defaults.instanceId : identifier(command.instanceId, "command.instanceId"),
    createdAt: command.createdAt === undefined ? defaults.nowMs : time(command.createdAt, "command.createdAt"),
    dueAt: optionalTime(command.dueAt, "command.dueAt")
  }
}

const filterKeys = ["tenantId", "domain", "types", "statuses", "createdFrom", "createdUntil"] as const

export const filter = (value: unknown, what = "filter"): EncodedFilter => {
  const given = options(value, what, filterKeys)
  return {
    tenantId: optionalIdentifier(given.tenantId, `${what}.tenantId`),
    domain: optionalIdentifier(given.domain, `${what}.domain`),
    types: optionalTypes(given.types, `${what}.types`),
    statuses:
      given.statuses === undefined
        ? null
        : array(given.statuses, `${what}.statuses`, 1, statuses.length).map((status, i) =>
            oneOf(status, `${what}.statuses[${i}]`, statuses)
          ),
    createdFrom: optionalTime(given.createdFrom, `${what}.createdFrom`),
    createdUntil: optionalTime(given.createdUntil, `${what}.createdUntil`)
  }
}

export interface ListRequest {
  readonly direction: Direction
  readonly filter: EncodedFilter
  readonly limit: number
}

export const listOptions = (value: unknown): ListRequest => {
  const given = options(value, "options", ["filter", "direction", "limit"])
  return {
    direction: direction(given.direction, "options.direction"),
    filter: filter(given.filter, "options.filter"),
    limit: optionalInteger(given.limit, "options.limit", 1, Number.MAX_SAFE_INTEGER)
  }
}

export const pageOptions = (value: unknown) => pageRequest(value, filter)

const distinctFields = ["tenantId", "domain", "type", "status", "instanceId"] as const

export const distinctField = (value: unknown): DistinctField => oneOf(value, "field", distinctFields)

export const pruneOptions = (value: unknown): EncodedFilter => {
  const found = filter(value, "options")
  if (found.createdUntil === null) return refuse("options.createdUntil", "must be given")
  return { ...found, statuses: found.statuses ?? (["succeeded", "failed"] satisfies ReadonlyArray<Status>) }
}

export interface Update {
  readonly id: string
  readonly data: string | null
  readonly metadata: string | null
  readonly status: { readonly status: Status; readonly outcome: string | null } | null
}

export const update = (id: unknown, value: unknown): Update => {
  const changes = fields(value, "changes", ["data", "metadata", "status", "outcome"])
  if (Object.values(changes).every((change) => change === undefined)) {
    return refuse("changes", "must have data, metadata or status")
  }
  const status = changes.status === undefined ? undefined : oneOf(changes.status, "changes.status", statuses)
  if (changes.outcome !== undefined && (status === undefined || status === "received")) {
    return refuse("changes.outcome", "needs the status succeeded or failed beside it")
  }
  return {
    id: uuid(id, "id"),
    data: changes.data === undefined ? null : payload(changes.data, "changes.data"),
    metadata: changes.metadata === undefined ? null : metadata(changes.metadata, "changes.metadata"),
    status: status === undefined ? null : { status, outcome: outcome(changes.outcome, "changes.outcome") }
  }
}

/** Absent when it is `undefined`: a command may succeed with nothing to say. */
export const outcome = (value: unknown, what: string): string | null =>
  value === undefined ? null : payload(value, what)

/** What an execution needs, each part looked at once: another look may find another value. */
export interface Execution<A, E, R> {
  readonly effect: Effect.Effect<A, E, R>
  readonly success: OutcomeCodec<A>
  readonly failure: OutcomeCodec<E> | undefined
  readonly leaseMs: number
  readonly transaction: boolean
}

export const execution = <E, R, Success extends OutcomeSchema, Failure extends OutcomeSchema>(
  effect: Effect.Effect<Success["Type"], E, R>,
  value: ExecuteOptions<Success, Failure> | undefined
): Execution<Success["Type"], E | Failure["Type"], R> => {
  if (!Effect.isEffect(effect)) return refuse("effect", "must be an Effect")
  options(value, "options", ["success", "failure", "lease", "transaction"])
  const { failure, lease, success = Schema.Void, transaction } = value ?? {}
  if (transaction !== undefined && typeof transaction !== "boolean") {
    return refuse("options.transaction", `must be true or false, not ${describe(transaction)}`)
  }
  return {
    effect,
    success: codec(success, "options.success"),
    failure: failure === undefined ? undefined : codec(failure, "options.failure"),
    transaction: transaction ?? false,
    leaseMs: optionalLeaseMs(lease, "options.lease")
  }
}
