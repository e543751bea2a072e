/**
 * Whose a record is: rules over its place and over what it says itself. A rule is asked when a record is written; who
 * reads finds the key by its id, so that a rule may change.
 */
import { createHash } from "node:crypto"
import type { EncodedCommand } from "../../commandStore/CommandStoreEncoded.js"
import type { EncodedFields } from "../../dataStore/DataStoreEncoded.js"
import { InvalidInput } from "../../Errors.js"
import type { EncodedEvent } from "../../eventStore/EventStoreEncoded.js"
import { array, describe, fields, identifier, options as optionsOf, refuse } from "../../internal/validate.js"
import type { Json, JsonObject } from "../../Json.js"
import type { StreamId } from "../../StreamId.js"
import type { EncodedSnapshot } from "../../snapshotStore/SnapshotStoreEncoded.js"
import { encode } from "../formats/context.js"

/**
 * Whose data can be forgotten, such as a person. `id` is 1 to 255 bytes of UTF-8, and names the subject within its
 * tenant. It is not stored: only its SHA-256 is. Whoever can guess an id can tell whether it is there, so name subjects
 * by ids that nobody guesses, such as UUIDs.
 *
 * @since 0.1.0
 * @category models
 */
export interface Subject {
  readonly tenantId: string
  readonly id: string
}

/**
 * What the rule for an event may look at.
 *
 * @since 0.1.0
 * @category models
 */
export interface EventRecord extends StreamId {
  readonly type: string
  readonly data: Json
  readonly metadata: JsonObject
}

/**
 * What the rule for a command may look at.
 *
 * @since 0.1.0
 * @category models
 */
export interface CommandRecord {
  readonly tenantId: string
  readonly domain: string
  readonly id: string
  readonly type: string
  readonly data: Json
  readonly metadata: JsonObject
}

/**
 * What the rule for a snapshot may look at.
 *
 * @since 0.1.0
 * @category models
 */
export interface SnapshotRecord extends StreamId {
  readonly state: Json
}

/**
 * What the rule for a cached value may look at.
 *
 * @since 0.1.0
 * @category models
 */
export interface CacheRecord {
  readonly tenantId: string
  readonly key: string
  readonly value: Json
}

/**
 * What the rule for an object may look at.
 *
 * @since 0.1.0
 * @category models
 */
export interface ObjectRecord {
  readonly bucket: string
  readonly name: string
  readonly contentType: string
  readonly metadata: Readonly<Record<string, string>>
}

/**
 * Whose a record is. A function returns the id of a subject in the record's tenant, or undefined for what is nobody's:
 * that is sealed with the ring. Where a record's place does not tell, its data or metadata may.
 *
 * A rule is asked at each write, and must be quick. What it throws fails the write with `StoreError`. It does not reach
 * what is derived from a record: where events are given by a function, give `snapshots` and `cache` too.
 *
 * @since 0.1.0
 * @category models
 */
export interface RuleOptions {
  /** Domains whose aggregates are the subjects, by their ids: events and snapshots. They go before the functions. */
  readonly domains?: ReadonlyArray<string> | undefined
  readonly events?: ((event: EventRecord) => string | undefined) | undefined
  readonly commands?: ((command: CommandRecord) => string | undefined) | undefined
  readonly snapshots?: ((snapshot: SnapshotRecord) => string | undefined) | undefined
  readonly cache?: ((entry: CacheRecord) => string | undefined) | undefined
  /** Objects have no tenant, so it is part of the subject. */
  readonly objects?: ((object: ObjectRecord) => Subject | undefined) | undefined
}

export const ruleKeys = ["domains", "events", "commands", "snapshots", "cache", "objects"] as const

/** The rules over records as ports have them. They throw what the functions do, and `InvalidInput`. */
export interface Rules {
  readonly event: (event: StreamId & Pick<EncodedEvent, "type" | "data" | "metadata">) => Subject | undefined
  readonly command: (
    command: Pick<EncodedCommand, "tenantId" | "domain" | "id" | "type" | "data" | "metadata">
  ) => Subject | undefined
  readonly snapshot: (snapshot: StreamId & Pick<EncodedSnapshot, "state">) => Subject | undefined
  readonly cached: (entry: {
    readonly tenantId: string
    readonly key: string
    readonly value: string
  }) => Subject | undefined
  readonly object: (
    object: Pick<EncodedFields, "contentType" | "metadata"> & { readonly bucket: string; readonly name: string }
  ) => Subject | undefined
}

const domainsMax = 1_000

/** Throws `InvalidInput`. */
export const rulesOf = (value: RuleOptions): Rules => {
  const given = optionsOf(value, "rules", ruleKeys)
  const domains = new Set(
    given.domains === undefined
      ? []
      : array(given.domains, "rules.domains", 0, domainsMax).map((one, i) => identifier(one, `rules.domains[${i}]`))
  )
  for (const name of ruleKeys) {
    const rule = given[name]
    if (name !== "domains" && rule !== undefined && typeof rule !== "function")
      refuse(`rules.${name}`, `must be a function, not ${describe(rule)}`)
  }
  const { cache, commands, events, objects, snapshots } = value
  const within = (tenantId: string, id: unknown, rule: keyof RuleOptions): Subject | undefined =>
    id === undefined ? undefined : { tenantId, id: identifier(id, `what rules.${rule} returned`) }
  const aggregate = ({ aggregateId, domain, tenantId }: StreamId): Subject | undefined =>
    domains.has(domain) ? { tenantId, id: aggregateId } : undefined

  return {
    event: ({ aggregateId, data, domain, metadata, tenantId, type }) =>
      aggregate({ tenantId, domain, aggregateId }) ??
      (events && within(tenantId, events(view({ tenantId, domain, aggregateId, type }, { data, metadata })), "events")),
    command: ({ data, domain, id, metadata, tenantId, type }) =>
      commands && within(tenantId, commands(view({ tenantId, domain, id, type }, { data, metadata })), "commands"),
    snapshot: ({ aggregateId, domain, state, tenantId }) =>
      aggregate({ tenantId, domain, aggregateId }) ??
      (snapshots && within(tenantId, snapshots(view({ tenantId, domain, aggregateId }, { state })), "snapshots")),
    cached: ({ key, tenantId, value }) => cache && within(tenantId, cache(view({ tenantId, key }, { value })), "cache"),
    object: ({ bucket, contentType, metadata, name }) => {
      if (objects === undefined) return undefined
      // Empty for what was not put by this library.
      const found = objects(view({ bucket, name, contentType }, { metadata: metadata === "" ? "{}" : metadata }))
      return found === undefined ? undefined : subjectOf(found, "what rules.objects returned")
    }
  }
}

/** What a rule looks at: the fields, and texts as values, each parsed when it is looked at. */
const view = <View extends object>(fields: object, texts: Readonly<Record<string, string>>): View => {
  const made = Object.assign(Object.create(null), fields)
  for (const [name, text] of Object.entries(texts))
    Object.defineProperty(made, name, { enumerable: true, get: () => JSON.parse(text) })
  return made
}

/** Throws `InvalidInput`. */
export const subjectOf = (value: unknown, what: string): Subject => {
  const { id, tenantId } = fields(value, what, ["tenantId", "id"])
  return { tenantId: identifier(tenantId, `${what}.tenantId`), id: identifier(id, `${what}.id`) }
}

/** Of one subject only: no part of it contains NUL. */
export const subjectName = ({ id, tenantId }: Subject): string => `${tenantId}\0${id}`

/** What the subject is stored and remembered under: the same for ever, whatever becomes of keys. */
export const refOf = ({ id, tenantId }: Subject): string =>
  createHash("sha256")
    .update(encode({ kind: "subject", tenant: tenantId, subject: id }))
    .digest("hex")

/** What a rule threw, for the cause of an error. */
export const thrown = (error: unknown): Error =>
  error instanceof InvalidInput || error instanceof Error ? error : new Error("it threw what is no Error")
