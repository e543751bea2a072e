/**
 * The port that a backend of the CacheStore implements, and `make`, the one step from the port to the public service.
 * A layer that seals values wraps the port of a service (`relift`), so it works with any backend.
 *
 * How a load cannot put an old value in the place of what came after it: `begin` leaves a **ticket** at the key, under
 * a token that nobody else has, and every removal and every `set` takes the ticket away together with the value.
 * `settle` stores only where the ticket still is. So nothing need be kept for keys that are gone; the technique is that
 * of the leases in Facebook's memcache. Tags have generations, which tickets and entries carry with them.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { CacheStoreShape } from "../CacheStore.js"
import type { InvalidInput, ReadFailure, StoreFailure } from "../Errors.js"
import type { Pages } from "../internal/pages.js"
import type { Json } from "../Json.js"
import type { Location } from "../Trace.js"
import * as lifted from "./lift.js"
import { leaseOf, liftOptions } from "./liftOptions.js"

export type { Pages } from "../internal/pages.js"

/**
 * @since 0.1.0
 * @category encoded
 */
export interface Place {
  readonly tenantId: string
  readonly key: string
}

/**
 * Where an entry is, and with which key its value is sealed.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedAddress extends Place {
  readonly keyId: string | null
}

/**
 * A value as it is stored: JSON text when `keyId` is null, else sealed with that key.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Payload {
  readonly value: string
  readonly keyId: string | null
}

/**
 * An entry that is fresh, or stale and within its grace.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedEntry extends Payload {
  /** What is left of its time to live; not above 0 when it is stale, `Infinity` when it lives for ever. */
  readonly freshMs: number
  readonly tags: ReadonlyArray<string>
  /** Of a backend in this process; only where the value is not sealed. */
  readonly parsed?: Parsed | undefined
}

/**
 * Where a backend keeps a value also as JSON, so that it is parsed once: `make` fills it, and copies from it. `text` is
 * what it was parsed from: an entry with another value was made from this one by a wrapped port.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Parsed {
  readonly text: string
  json?: Json
}

/**
 * An entry to store.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedWrite extends Place, Payload {
  /** Whole milliseconds from 1, or `Infinity`. */
  readonly ttlMs: number
  /** Whole milliseconds from 0, or `Infinity`. */
  readonly graceMs: number
  readonly tags: ReadonlyArray<string>
}

/**
 * What a load holds at a key. `tags` is what the backend makes of the generations of the tags; nobody else looks at it.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Ticket extends Place {
  readonly token: string
  readonly tags: unknown
}

/**
 * @since 0.1.0
 * @category encoded
 */
export interface BeginRequest {
  readonly tenantId: string
  /** Different ones. */
  readonly keys: ReadonlyArray<string>
  /** Those of the entries to come. */
  readonly tags: ReadonlyArray<string>
  /** Unique to this request. */
  readonly token: string
  /** How long the tickets last unless they are renewed. */
  readonly leaseMs: number
  /** An entry that has not more than this left of its time to live is to be loaded as well. */
  readonly refreshMs: number
}

/**
 * - `Fresh`: there is a value, and no load is needed.
 * - `Granted`: the caller is to load.
 * - `Busy`: another load has its ticket here.
 *
 * `entry` is what is there meanwhile, if anything.
 *
 * @since 0.1.0
 * @category encoded
 */
export type Begun =
  | { readonly _tag: "Fresh"; readonly entry: EncodedEntry }
  | { readonly _tag: "Granted"; readonly ticket: Ticket; readonly entry: EncodedEntry | null }
  | { readonly _tag: "Busy"; readonly entry: EncodedEntry | null }

/**
 * The end of a load: what to store, or null for nothing, and how long the ticket is to stay all the same, so that
 * others do not load at once what has just failed (0: not at all).
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Settlement {
  readonly ticket: Ticket
  readonly write: EncodedWrite | null
  readonly holdMs: number
}

/**
 * @since 0.1.0
 * @category encoded
 */
export interface EncodedListed {
  readonly key: string
  readonly freshMs: number
}

/**
 * How a backend reads one entry. One that has it at hand may add `atOnce`: the same without an Effect, by the fiber's
 * Clock, for a third of the cost. It belongs to the function, so a port that wraps another and brings a `get` of its
 * own has none, and nobody reads past it.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Get {
  (place: Place, left: boolean): Effect.Effect<EncodedEntry | null, ReadFailure>
  readonly atOnce?: ((place: Place, nowMs: number) => EncodedEntry | null) | undefined
}

/**
 * What a backend implements. Input has been checked; every step is atomic for each key. What is at its end (time to
 * live and grace) is absent, purged or not, and so is what carries a generation that its tag has no more. Every member
 * may be used concurrently and be interrupted at any time without leaving anything behind.
 *
 * @since 0.1.0
 * @category encoded
 */
export interface Encoded {
  /**
   * Null for absent. Where `left` is false, `freshMs` of a fresh entry may be any number above 0: to know more may cost
   * more.
   */
  readonly get: Get

  /** The same, in the order of the keys, which are different. */
  readonly getMany: (
    tenantId: string,
    keys: ReadonlyArray<string>,
    left: boolean
  ) => Effect.Effect<ReadonlyArray<EncodedEntry | null>, ReadFailure>

  /** Entries of different places of one tenant, with the same tags. Takes their tickets away. */
  readonly set: (writes: ReadonlyArray<EncodedWrite>) => Effect.Effect<void, StoreFailure>

  /** Where no fresh entry is: `set`, and true. */
  readonly setIfAbsent: (write: EncodedWrite) => Effect.Effect<boolean, StoreFailure>

  /** Of a fresh entry: begins its time to live anew, and its grace after it, and true. */
  readonly touch: (place: Place, ttlMs: number) => Effect.Effect<boolean, StoreFailure>

  /** Removes entries and tickets. */
  readonly remove: (tenantId: string, keys: ReadonlyArray<string>) => Effect.Effect<void, StoreFailure>

  /** Makes fresh entries stale, for their grace at most, and removes tickets. */
  readonly expire: (tenantId: string, keys: ReadonlyArray<string>) => Effect.Effect<void, StoreFailure>

  /** Gives the tags new generations: entries with the old are absent, tickets with them void. */
  readonly invalidateTags: (tenantId: string, tags: ReadonlyArray<string>) => Effect.Effect<void, StoreFailure>

  /** The same, but for entries what `expire` is. */
  readonly expireTags: (tenantId: string, tags: ReadonlyArray<string>) => Effect.Effect<void, StoreFailure>

  /** In the order of the keys. Takes the generations of the tags before it looks at the keys. */
  readonly begin: (request: BeginRequest) => Effect.Effect<ReadonlyArray<Begun>, StoreFailure>

  /** Lets the tickets of one request last so long from now, and tells which are still there. */
  readonly renew: (
    tickets: ReadonlyArray<Ticket>,
    leaseMs: number
  ) => Effect.Effect<ReadonlyArray<boolean>, StoreFailure>

  /**
   * Where the ticket is still there, and none of its tags has another generation: stores, takes the ticket away, and
   * true. An old ticket is never an error.
   */
  readonly settle: (settlements: ReadonlyArray<Settlement>) => Effect.Effect<ReadonlyArray<boolean>, StoreFailure>

  /** The fresh entries of a tenant whose keys begin with the prefix. */
  readonly list: (tenantId: string, prefix: string) => Pages<EncodedListed, ReadFailure>

  readonly count: (tenantId: string, prefix: string) => Effect.Effect<number, ReadFailure>

  /** Replaces the value of an entry and its key, if they are still as `was` says; nothing else of it changes. */
  readonly replace: (place: Place, was: Payload, payload: Payload) => Effect.Effect<boolean, StoreFailure>

  /**
   * All entries that may be there, fresh or stale, in any order. One that is there all the while comes at least once.
   */
  readonly addresses: Pages<EncodedAddress, ReadFailure>

  /** Removes entries and tickets of one tenant, or of all: also those of loads that end meanwhile. */
  readonly reset: (tenantId: string | null) => Effect.Effect<void, StoreFailure>

  readonly info: Effect.Effect<
    { readonly backend: string; readonly connection: string; readonly entries: number },
    ReadFailure
  >

  /**
   * What a layer that seals keeps beside the entries: returns the value under this name; if there is none, and one is
   * given, keeps that first. One atomic step. `reset` leaves it alone.
   */
  readonly note: (name: string, value: string | null) => Effect.Effect<string | null, StoreFailure>

  /** Whether the fiber is in a transaction that this port's operations are part of. */
  readonly inTransaction: Effect.Effect<boolean>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends Location {
  /** What the backend is in OpenTelemetry's words: `postgresql`, `sqlite`, `redis`, `memory`. */
  readonly system: string
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
  /**
   * How long the lock of a load lasts when its process dies; a living one renews it. `Infinity` where the backend dies
   * with the process. Default 5,000.
   */
  readonly leaseMs?: number | undefined
  /** Whether `getOrSet` leaves a backend alone for half a second after it was unavailable. Default true. */
  readonly breaker?: boolean | undefined
}

/**
 * Options that the layers of backends have in common.
 *
 * @since 0.1.0
 * @category models
 */
export interface LayerOptions {
  readonly readOnly?: boolean | undefined
  readonly lease?: Duration.DurationInput | undefined
  readonly breaker?: boolean | undefined
}

/**
 * Those, checked, as `make` takes them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const optionsOf: (system: string, options: LayerOptions) => Effect.Effect<Options, InvalidInput> = liftOptions

/**
 * Lifts the port to the public service. Closing the scope interrupts the loads that are under way, so it must come
 * before the backend's own end.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: (encoded: Encoded, options: Options) => Effect.Effect<CacheStoreShape, never, Scope.Scope> =
  lifted.lift

/**
 * Lifts a service again over its wrapped port, with the options that it was lifted with: how a layer that seals values
 * wraps a store of any backend. The given service goes on as it was. `InvalidInput` when it was not made by `make`: a
 * service made by hand, or a copy of one with other members, has no port. Loads by itself, until the scope closes.
 *
 * @since 0.1.0
 * @category constructors
 */
export const relift: <E, R>(
  service: CacheStoreShape,
  wrap: (encoded: Encoded) => Effect.Effect<Encoded, E, R>
) => Effect.Effect<CacheStoreShape, E | InvalidInput, R | Scope.Scope> = lifted.relift

/**
 * The lease of a load in milliseconds. Throws `InvalidInput`.
 *
 * @internal
 */
export const leaseMsOf: (lease: unknown) => number = leaseOf
