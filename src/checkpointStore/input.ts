/**
 * Checks of everything that callers pass to the CheckpointStore, and its encoded form. They throw `InvalidInput` (see
 * `validate.checked`) and return fresh values.
 */
import type { Lease } from "../CheckpointStore.js"
import { leaseMs, optionalLeaseMs } from "../internal/durations.js"
import {
  array,
  fields,
  identifier,
  integer,
  oneOf,
  optionalInteger,
  options,
  refuse,
  streamId,
  uuid
} from "../internal/validate.js"
import type { Encoded, EncodedDeadLetter, EncodedFollower, EncodedPlace } from "./CheckpointStoreEncoded.js"

/** Each partition reads the feed, and is a row that `open` makes in one step. */
const partitionsMax = 1_000

/** PostgreSQL keeps it as an `integer`. */
const generationMax = 2 ** 31 - 1

const generation = (value: unknown, what: string): number => integer(value, what, 1, generationMax)

export const follower = (value: unknown): EncodedFollower => {
  const given = fields(value, "follower", ["name", "generation"])
  return {
    name: identifier(given.name, "follower.name"),
    generation: given.generation === undefined ? 1 : generation(given.generation, "follower.generation")
  }
}

/** What is to be deleted must be named in full. */
export const wholeFollower = (value: unknown): EncodedFollower => {
  const given = fields(value, "follower", ["name", "generation"])
  return {
    name: identifier(given.name, "follower.name"),
    generation: generation(given.generation, "follower.generation")
  }
}

export const partitionsOf = (value: unknown): number =>
  optionalInteger(options(value, "options", ["partitions"]).partitions, "options.partitions", 1, 1, partitionsMax)

export const claim = (of: unknown, value: unknown): Parameters<Encoded["claim"]>[0] => {
  const place = follower(of)
  const given = fields(value, "options", ["owner", "partition", "lease", "takeFrom"])
  return {
    ...place,
    owner: identifier(given.owner, "options.owner"),
    partition: optionalInteger(given.partition, "options.partition", 0, 0, partitionsMax - 1),
    leaseMs: optionalLeaseMs(given.lease, "options.lease"),
    takeFrom: given.takeFrom === undefined ? null : integer(given.takeFrom, "options.takeFrom", 1)
  }
}

export interface EncodedLease extends EncodedPlace {
  readonly partitions: number
  readonly owner: string
  readonly token: number
  readonly position: number
  readonly leaseMs: number
}

const leaseKeys = ["name", "generation", "partition", "partitions", "owner", "token", "position", "duration"] as const

export const lease = (value: Lease): EncodedLease => {
  const given = fields(value, "lease", leaseKeys)
  return {
    name: identifier(given.name, "lease.name"),
    generation: generation(given.generation, "lease.generation"),
    partition: integer(given.partition, "lease.partition", 0, partitionsMax - 1),
    partitions: integer(given.partitions, "lease.partitions", 1, partitionsMax),
    owner: identifier(given.owner, "lease.owner"),
    token: integer(given.token, "lease.token", 1),
    position: integer(given.position, "lease.position", 0),
    leaseMs: leaseMs(given.duration, "lease.duration")
  }
}

export const position = (value: unknown, { position }: EncodedLease): number => integer(value, "position", position)

const letterKeys = ["tenantId", "domain", "aggregateId", "eventId", "position", "type", "reason", "scope"] as const

/** Of one commit. */
const lettersMax = 1_000

const deadLetter = (value: unknown, what: string, partition: number): EncodedDeadLetter => {
  const given = fields(value, what, letterKeys)
  return {
    ...streamId(given, what),
    partition,
    eventId: uuid(given.eventId, `${what}.eventId`),
    position: integer(given.position, `${what}.position`, 1),
    type: identifier(given.type, `${what}.type`),
    reason: identifier(given.reason, `${what}.reason`),
    scope: oneOf(given.scope, `${what}.scope`, ["event", "stream"])
  }
}

export const commit = (
  held: EncodedLease,
  value: unknown
): Pick<Parameters<Encoded["commit"]>[0], "deadLetters" | "settled"> => {
  const given = options(value, "options", ["deadLetters", "settled"])
  const some = (values: unknown, what: string) => (values === undefined ? [] : array(values, what, 0, lettersMax))
  const deadLetters = some(given.deadLetters, "options.deadLetters").map((letter, i) =>
    deadLetter(letter, `options.deadLetters[${i}]`, held.partition)
  )
  const settled = some(given.settled, "options.settled").map((position, i) =>
    integer(position, `options.settled[${i}]`, 1)
  )
  const named = new Set(settled)
  for (const { position } of deadLetters) {
    if (named.has(position)) refuse("options", `must not name position ${position} twice`)
    named.add(position)
  }
  return { deadLetters, settled }
}

export const filter = (value: unknown): Parameters<Encoded["list"]>[0] => {
  const given = options(value, "filter", ["name", "generation"])
  if (given.name === undefined) {
    if (given.generation !== undefined) refuse("filter.generation", "needs filter.name beside it")
    return { name: null, generation: null }
  }
  return {
    name: identifier(given.name, "filter.name"),
    generation: given.generation === undefined ? null : generation(given.generation, "filter.generation")
  }
}
