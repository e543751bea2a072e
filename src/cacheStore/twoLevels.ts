/**
 * The port of two levels: values are read from the first, and from the second where the first has none; everything else
 * is the second's. What this promises is said at `CacheStoreTwoLevels`.
 *
 * A value that is read from the second level is put into the first only if nothing was removed since the read began.
 * For keys the first level's own tickets say so; tags are known after the read only, so for them there is a count of
 * removals by tag, looked at before the read and after the filling.
 */
import { randomUUID } from "node:crypto"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type { CacheBusShape } from "../CacheBus.js"
import type { ReadFailure, StoreFailure } from "../Errors.js"
import { addSealed, isSealed, upkeepIn } from "../internal/lifted.js"
import type { Encoded, EncodedEntry, Settlement } from "./CacheStoreEncoded.js"

/** What is removed from the first level: keys and tags, or all of a tenant, or of every tenant. */
interface Removal {
  readonly tenantId: string | null
  readonly keys?: ReadonlyArray<string>
  readonly tags?: ReadonlyArray<string>
}

/** Of a message: PostgreSQL's are shorter than 8,000 bytes. */
const messageMax = 7_000

export const twoLevels = (
  first: Encoded,
  second: Encoded,
  bus: CacheBusShape | undefined,
  stalenessMs: number
): Effect.Effect<Encoded, never, Scope.Scope> =>
  Effect.gen(function* () {
    const run = Runtime.runFork(yield* Effect.runtime<never>())
    /** Whether the first level hears of every removal. */
    let usable = bus === undefined
    /** Grows with every connection that is lost or made. */
    let connection = 0
    let removalsByTag = 0

    const forget = ({ keys, tags, tenantId }: Removal): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (tenantId === null || (keys === undefined && tags === undefined)) {
          removalsByTag++
          return first.reset(tenantId)
        }
        if (tags !== undefined && tags.length > 0) removalsByTag++
        return Effect.zipRight(
          keys === undefined || keys.length === 0 ? Effect.void : first.remove(tenantId, keys),
          tags === undefined || tags.length === 0 ? Effect.void : first.invalidateTags(tenantId, tags)
        )
      }).pipe(
        // A first level that cannot remove is not read any more.
        Effect.catchAll(() =>
          Effect.sync(() => {
            usable = false
          })
        )
      )

    const publish = (removal: Removal): Effect.Effect<void> => {
      if (bus === undefined) return Effect.void
      const text = JSON.stringify(removal)
      const short = Buffer.byteLength(text) <= messageMax ? text : JSON.stringify({ tenantId: removal.tenantId })
      // Whom it does not reach is bounded by the staleness.
      return Effect.ignore(bus.publish(short))
    }

    /** The second level first, then this process's first level, then the others'. */
    const removing = <A>(removal: Removal, change: Effect.Effect<A, StoreFailure>): Effect.Effect<A, StoreFailure> =>
      // Also after a failure, whose outcome nobody knows.
      Effect.ensuring(change, Effect.zipRight(forget(removal), publish(removal)))

    if (bus !== undefined) {
      yield* bus.listen({
        message: (text) => {
          run(forget(removalOf(text)))
        },
        connected: () => {
          const mine = ++connection
          // What was removed meanwhile was told to nobody here.
          run(
            Effect.tap(Effect.exit(first.reset(null)), (exit) =>
              Effect.sync(() => {
                removalsByTag++
                if (mine === connection) usable = exit._tag === "Success"
              })
            )
          )
        },
        lost: () => {
          connection++
          usable = false
        }
      })
    }

    const read = (
      tenantId: string,
      keys: ReadonlyArray<string>
    ): Effect.Effect<ReadonlyArray<EncodedEntry | null>, ReadFailure> =>
      keys.length === 1
        ? Effect.map(second.get({ tenantId, key: keys[0] as string }, true), (entry) => [entry])
        : second.getMany(tenantId, keys, true)

    /** Reads from the second level, and fills the first. */
    const fill = (
      tenantId: string,
      keys: ReadonlyArray<string>
    ): Effect.Effect<ReadonlyArray<EncodedEntry | null>, ReadFailure> =>
      Effect.gen(function* () {
        const startedMs = yield* Clock.currentTimeMillis
        const before = { connection, removalsByTag }
        const begun = yield* Effect.orElseSucceed(
          first.begin({ tenantId, keys, tags: [], token: randomUUID(), leaseMs: stalenessMs, refreshMs: 0 }),
          () => []
        )
        const giveBack = Effect.suspend(() => {
          const settlements = begun.flatMap(
            (outcome): ReadonlyArray<Settlement> =>
              outcome._tag === "Granted" ? [{ ticket: outcome.ticket, write: null, holdMs: 0 }] : []
          )
          return settlements.length === 0 ? Effect.void : Effect.ignore(first.settle(settlements))
        })
        const entries = yield* Effect.onError(read(tenantId, keys), () => giveBack)
        const leftMs = stalenessMs - ((yield* Clock.currentTimeMillis) - startedMs)
        const filled: Array<string> = []
        const settlements = begun.flatMap((outcome, i): ReadonlyArray<Settlement> => {
          if (outcome._tag !== "Granted") return []
          const { ticket } = outcome
          const entry = entries[i] ?? null
          if (entry === null || !(entry.freshMs > 0) || leftMs < 1 || !usable || connection !== before.connection) {
            return [{ ticket, write: null, holdMs: 0 }]
          }
          const { keyId, tags, value } = entry
          filled.push(ticket.key)
          const ttlMs = Math.max(1, Math.floor(Math.min(entry.freshMs, leftMs)))
          return [{ ticket, write: { tenantId, key: ticket.key, value, keyId, ttlMs, graceMs: 0, tags }, holdMs: 0 }]
        })
        if (settlements.length > 0) yield* Effect.ignore(first.settle(settlements))
        if (filled.length > 0 && removalsByTag !== before.removalsByTag) {
          yield* Effect.ignore(first.remove(tenantId, filled))
        }
        return entries
      })

    const isHit = (entry: EncodedEntry | null | undefined): entry is EncodedEntry =>
      entry !== null && entry !== undefined && entry.freshMs > 0

    const getMany: Encoded["getMany"] = (tenantId, keys, left) => {
      // What is left of the time to live is known in the second level only.
      if (!usable || left) return second.getMany(tenantId, keys, left)
      return Effect.flatMap(
        Effect.orElseSucceed(first.getMany(tenantId, keys, false), () => []),
        (near) => {
          const missing = keys.filter((_, i) => !isHit(near[i]))
          if (missing.length === 0) return Effect.succeed(near)
          return Effect.map(fill(tenantId, missing), (far) => {
            const found = new Map(missing.map((key, i) => [key, far[i] ?? null]))
            return keys.map((key, i) => found.get(key) ?? near[i] ?? null)
          })
        }
      )
    }

    const levels: Encoded = {
      get: (place, left) => {
        if (!usable || left) return second.get(place, left)
        const { key, tenantId } = place
        return Effect.flatMap(
          Effect.orElseSucceed(first.get(place, false), () => null),
          (near) => (isHit(near) ? Effect.succeed(near) : Effect.map(fill(tenantId, [key]), ([entry]) => entry ?? null))
        )
      },

      getMany,

      set: (writes) => {
        const [write] = writes
        return write === undefined
          ? Effect.void
          : removing({ tenantId: write.tenantId, keys: writes.map(({ key }) => key) }, second.set(writes))
      },

      setIfAbsent: (write) => removing({ tenantId: write.tenantId, keys: [write.key] }, second.setIfAbsent(write)),

      touch: (place, ttlMs) => removing({ tenantId: place.tenantId, keys: [place.key] }, second.touch(place, ttlMs)),

      remove: (tenantId, keys) => removing({ tenantId, keys }, second.remove(tenantId, keys)),

      expire: (tenantId, keys) => removing({ tenantId, keys }, second.expire(tenantId, keys)),

      invalidateTags: (tenantId, tags) => removing({ tenantId, tags }, second.invalidateTags(tenantId, tags)),

      expireTags: (tenantId, tags) => removing({ tenantId, tags }, second.expireTags(tenantId, tags)),

      begin: (request) => second.begin(request),

      renew: (tickets, leaseMs) => second.renew(tickets, leaseMs),

      settle: (settlements) =>
        Effect.ensuring(
          second.settle(settlements),
          Effect.forEach(settlements, ({ ticket: { key, tenantId } }) => forget({ tenantId, keys: [key] }), {
            discard: true
          })
        ),

      list: (tenantId, prefix) => second.list(tenantId, prefix),

      replace: (place, was, payload) =>
        removing({ tenantId: place.tenantId, keys: [place.key] }, second.replace(place, was, payload)),

      addresses: second.addresses,

      count: (tenantId, prefix) => second.count(tenantId, prefix),

      reset: (tenantId) => removing({ tenantId }, second.reset(tenantId)),

      info: second.info,

      note: second.note,

      inTransaction: second.inTransaction
    }
    const sealed = [second, first].find(isSealed)
    return sealed === undefined ? levels : addSealed(levels, upkeepIn(sealed))
  })

const removalOf = (text: string): Removal => {
  try {
    const removal: Removal = JSON.parse(text)
    if (removal.tenantId === null || typeof removal.tenantId === "string") return removal
  } catch {}
  // What nobody understands may be about anything.
  return { tenantId: null }
}
