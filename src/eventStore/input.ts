/**
 * Checks of everything that callers pass to the EventStore, and its encoded form. They throw `InvalidInput` (see
 * `validate.checked`) and return fresh values, so a later change of the caller's objects changes nothing here.
 */
import type {
  AppendAllOptions,
  AppendOptions,
  Direction,
  DistinctField,
  ExpectedVersion,
  Guard
} from "../EventStore.js"
import { direction, pageRequest } from "../internal/pages.js"
import {
  array,
  type Defaults,
  fields,
  identifier,
  integer,
  metadata,
  oneOf,
  optionalIdentifier,
  optionalInteger,
  optionalTime,
  optionalTypes,
  options,
  payload,
  record,
  refuse,
  streamId,
  time,
  uuid
} from "../internal/validate.js"
import { metadataKey } from "../Trace.js"
import * as Uuid from "../Uuid.js"
import type { Encoded, EncodedAppend, EncodedFilter, EncodedNewEvent } from "./EventStoreEncoded.js"

const eventsPerAppendMax = 10_000
const streamsPerAppendMax = 1_000

/** A statement and its parameters must fit into one message of the backend, and several times into memory. */
const appendCharsMax = 64 * 1024 * 1024

const expectedVersion = (value: unknown, what: string): ExpectedVersion =>
  typeof value === "number" ? integer(value, what, 0) : oneOf(value, what, ["any", "noStream", "streamExists"])

const appendOptionKeys: ReadonlyArray<keyof AppendOptions> = ["expected"]
const appendAllOptionKeys: ReadonlyArray<keyof AppendAllOptions> = ["guards"]

const appendOptions = (given: Record<string, unknown>, prefix: string): AppendOptions => ({
  expected: expectedVersion(given.expected, `${prefix}expected`)
})

const eventKeys = ["id", "type", "data", "metadata", "commandId", "instanceId", "createdAt"] as const
const envelopeKeys = ["metadata", "commandId", "instanceId", "createdAt"] as const
const placeKeys = ["tenantId", "domain", "aggregateId", "version", "position"] as const

/**
 * Checks the keys, since a misspelt one would silently have no effect. A stored event may be appended as it is; its old
 * place is ignored. This runs for every event, hence no list of keys.
 */
const eventRecord = (value: unknown, what: string): Record<string, unknown> => {
  const event = record(value, what)
  for (const key in event) {
    switch (key) {
      case "id":
      case "type":
      case "data":
      case "metadata":
      case "commandId":
      case "instanceId":
      case "createdAt":
        continue
    }
    if (!placeKeys.includes(key as never) || placeKeys.some((place) => event[place] === undefined)) {
      oneOf(key, `a key of ${what}`, eventKeys)
    }
  }
  return event
}

/** `traceparent` goes into the metadata of events that have none. */
export interface AppendDefaults extends Defaults {
  readonly traceparent: string | undefined
}

/** Into the text of an object, which `Json.encode` has written: its keys are unique, and so must this be. */
const withTrace = (text: string, given: unknown, traceparent: string | undefined): string =>
  traceparent === undefined || (given as { readonly traceparent?: unknown } | undefined)?.[metadataKey] !== undefined
    ? text
    : `{"${metadataKey}":"${traceparent}"${text === "{}" ? "" : ","}${text.slice(1)}`

const newEvent = (value: unknown, what: string, defaults: AppendDefaults): EncodedNewEvent => {
  const event = eventRecord(value, what)
  return {
    id: event.id === undefined ? Uuid.v7(defaults.nowMs) : uuid(event.id, `${what}.id`),
    type: identifier(event.type, `${what}.type`),
    data: payload(event.data, `${what}.data`),
    metadata: withTrace(metadata(event.metadata, `${what}.metadata`), event.metadata, defaults.traceparent),
    keyId: null,
    commandId: optionalIdentifier(event.commandId, `${what}.commandId`),
    instanceId:
      event.instanceId === undefined ? defaults.instanceId : identifier(event.instanceId, `${what}.instanceId`),
    createdAt: event.createdAt === undefined ? defaults.nowMs : time(event.createdAt, `${what}.createdAt`)
  }
}

/** What events of one typed append share; `id` only where it is for one event. */
export const envelope = (value: unknown): Record<string, unknown> => ({
  ...options(value, "envelope", ["id", ...envelopeKeys])
})

/** What the events share, apart from the options of the append. */
export const typedAppend = (events: unknown, value: unknown) => {
  const given = options(value, "options", [...appendOptionKeys, ...envelopeKeys])
  return {
    events: array(events, "events", 1, eventsPerAppendMax),
    envelope: Object.fromEntries(envelopeKeys.map((key) => [key, given[key]])),
    options: appendOptions(given, "options.")
  }
}

export const append = (stream: unknown, events: unknown, value: unknown, defaults: AppendDefaults): EncodedAppend => {
  const given = options(value, "options", appendOptionKeys)
  return encodedAppend(stream, events, "", given, "options.", defaults)
}

/** `prefix` and `optionsPrefix`: the paths of the events and of the options in the caller's arguments. */
const encodedAppend = (
  streamGiven: unknown,
  eventsGiven: unknown,
  prefix: string,
  optionsGiven: Record<string, unknown>,
  optionsPrefix: string,
  defaults: AppendDefaults
): EncodedAppend => {
  const stream = streamId(streamGiven, `${prefix}stream`)
  const options = appendOptions(optionsGiven, optionsPrefix)
  const given = array(eventsGiven, `${prefix}events`, 1, eventsPerAppendMax)
  const events: Array<EncodedNewEvent> = []
  let chars = 0
  for (let i = 0; i < given.length; i++) {
    const event = newEvent(given[i], `${prefix}events[${i}]`, defaults)
    chars += event.data.length + event.metadata.length
    if (chars > appendCharsMax) {
      return refuse(`${prefix}events`, `their data and metadata together exceed ${appendCharsMax} characters`)
    }
    events.push(event)
  }
  if (events.length > 1) distinctIds(events, `${prefix}events`)
  return { stream, ...options, events }
}

const distinctIds = (events: ReadonlyArray<EncodedNewEvent>, what: string): void => {
  const seen = new Set<string>()
  for (const { id } of events) {
    if (seen.has(id)) refuse(what, `has two events with the id ${id}`)
    seen.add(id)
  }
}

export const appendAll = (
  appends: unknown,
  value: unknown,
  defaults: AppendDefaults
): { readonly appends: ReadonlyArray<EncodedAppend>; readonly guards: ReadonlyArray<Guard> } => {
  const { guards } = options(value, "options", appendAllOptionKeys)
  const batch = array(appends, "appends", 1, streamsPerAppendMax).map((value, i) => {
    const { events, stream, ...given } = fields(value, `appends[${i}]`, ["stream", "events", ...appendOptionKeys])
    return encodedAppend(stream, events, `appends[${i}].`, given, `appends[${i}].`, defaults)
  })
  const events = batch.flatMap((append) => append.events)
  if (events.length > eventsPerAppendMax) refuse("appends", `have more than ${eventsPerAppendMax} events together`)
  if (events.reduce((chars, event) => chars + event.data.length + event.metadata.length, 0) > appendCharsMax) {
    refuse("appends", `their data and metadata together exceed ${appendCharsMax} characters`)
  }
  distinctIds(events, "appends")
  const guarded =
    guards === undefined
      ? []
      : array(guards, "options.guards", 0, streamsPerAppendMax).map((value, i) => {
          const what = `options.guards[${i}]`
          const { expected, stream } = fields(value, what, ["stream", "expected"])
          return {
            stream: streamId(stream, `${what}.stream`),
            expected: expectedVersion(expected, `${what}.expected`)
          }
        })
  const seen = new Set<string>()
  for (const { stream } of [...batch, ...guarded]) {
    const key = JSON.stringify([stream.tenantId, stream.domain, stream.aggregateId])
    if (seen.has(key)) refuse("appends", `name the stream ${key} twice, guards included`)
    seen.add(key)
  }
  return { appends: batch, guards: guarded }
}

export interface ReadRequest {
  readonly direction: Direction
  readonly fromVersion: number
  readonly toVersion: number
  readonly limit: number
}

export const readOptions = (value: unknown): ReadRequest => {
  const given = options(value, "options", ["direction", "fromVersion", "toVersion", "limit"])
  return {
    direction: direction(given.direction, "options.direction"),
    fromVersion: optionalInteger(given.fromVersion, "options.fromVersion", 0, 1),
    toVersion: optionalInteger(given.toVersion, "options.toVersion", 0, Number.MAX_SAFE_INTEGER),
    limit: optionalInteger(given.limit, "options.limit", 1, Number.MAX_SAFE_INTEGER)
  }
}

export interface FeedRequest {
  readonly after: number
  readonly filter: EncodedFilter
  readonly limit: number
}

export const feedOptions = (value: unknown): FeedRequest => {
  const given = options(value, "options", ["after", "filter", "limit"])
  return {
    after: optionalInteger(given.after, "options.after", 0, 0),
    filter: filter(given.filter, "options.filter"),
    limit: optionalInteger(given.limit, "options.limit", 1, Number.MAX_SAFE_INTEGER)
  }
}

export const filter = (value: unknown, what = "filter"): EncodedFilter => {
  const given = options(value, what, filterKeys)
  return {
    tenantId: optionalIdentifier(given.tenantId, `${what}.tenantId`),
    domain: optionalIdentifier(given.domain, `${what}.domain`),
    aggregateId: optionalIdentifier(given.aggregateId, `${what}.aggregateId`),
    types: optionalTypes(given.types, `${what}.types`),
    commandId: optionalIdentifier(given.commandId, `${what}.commandId`),
    createdFrom: optionalTime(given.createdFrom, `${what}.createdFrom`),
    createdUntil: optionalTime(given.createdUntil, `${what}.createdUntil`)
  }
}

const filterKeys = ["tenantId", "domain", "aggregateId", "types", "commandId", "createdFrom", "createdUntil"] as const

const distinctFields = ["tenantId", "domain", "aggregateId", "type", "commandId", "instanceId"] as const

export const distinctField = (value: unknown): DistinctField => oneOf(value, "field", distinctFields)

export const pageOptions = (value: unknown) => pageRequest(value, filter)

export const update = (id: unknown, value: unknown, nowMs: number): Parameters<Encoded["update"]>[0] => {
  const changes = fields(value, "changes", ["data", "metadata"])
  if (changes.data === undefined && changes.metadata === undefined)
    return refuse("changes", "must have data or metadata")
  return {
    id: uuid(id, "id"),
    data: changes.data === undefined ? null : payload(changes.data, "changes.data"),
    metadata: changes.metadata === undefined ? null : metadata(changes.metadata, "changes.metadata"),
    keyId: null,
    revision: Uuid.v7(nowMs)
  }
}
