/**
 * The CacheStore's port on PostgreSQL: one statement for each step, two for what has tags.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type {
  Begun,
  Encoded,
  EncodedAddress,
  EncodedListed,
  EncodedWrite,
  Place,
  Ticket
} from "../../cacheStore/CacheStoreEncoded.js"
import type { ReadFailure, StoreFailure } from "../../Errors.js"
import { nextAfter, type Pages, pageSize } from "../../internal/pages.js"
import {
  decodeMarks,
  encodeMarks,
  firstAddress,
  keepOf,
  purgeBatch,
  sameMarks,
  type TagMark
} from "../../sql/cacheRows.js"
import type { StoreAccess } from "../database/access.js"
import type { Names } from "../database/names.js"
import { note } from "../database/notes.js"
import * as statements from "./statements.js"

/** Between two looks for what is at its end. */
const purgeEvery = "5 seconds"

const noMarks: ReadonlyArray<TagMark> = []

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded, never, Scope.Scope> => {
  const sql = statements.make(names)

  /** Generations as they are now, made where there are none, to live for so long at least. */
  const takeTags = (
    operation: string,
    tenantId: string,
    tags: ReadonlyArray<string>,
    keepMs: number
  ): Effect.Effect<ReadonlyArray<TagMark>, StoreFailure> =>
    tags.length === 0
      ? Effect.succeed(noMarks)
      : Effect.flatMap(database.run(sql.lookAtTags(operation, tenantId, tags, keepMs)), (found) =>
          found === null
            ? Effect.map(database.run(sql.takeTags(operation, tenantId, tags, keepMs)), (taken) => taken ?? noMarks)
            : Effect.succeed(found)
        )

  const tagsIn = (ticket: Ticket): ReadonlyArray<TagMark> => ticket.tags as ReadonlyArray<TagMark>

  /** Whether the tags of a ticket have the generations that they had. */
  const standing = (operation: string, { tags, tenantId }: Ticket, keepMs: number) => {
    const marks = tags as ReadonlyArray<TagMark>
    return Effect.map(
      takeTags(
        operation,
        tenantId,
        marks.map(({ name }) => name),
        keepMs
      ),
      (taken) => sameMarks(marks, taken)
    )
  }

  const pages = (tenantId: string, prefix: string, after: string): Pages<EncodedListed, ReadFailure> =>
    Effect.map(database.run(sql.list(tenantId, prefix, after, pageSize)), (items) => {
      const last = items[items.length - 1]
      const next = items.length === pageSize && last !== undefined ? pages(tenantId, prefix, last.key) : undefined
      return { items, next }
    })

  const addresses = (after: Place): Pages<EncodedAddress, ReadFailure> =>
    Effect.map(database.run(sql.addresses(after)), (items) => nextAfter(items, addresses))

  const encoded: Encoded = {
    get: ({ key, tenantId }) => database.run(sql.get(tenantId, key)),

    getMany: (tenantId, keys) => database.run(sql.getMany("getMany", tenantId, keys)),

    set: (writes) => {
      const [first] = writes
      if (first === undefined) return Effect.void
      const { graceMs, tags, tenantId, ttlMs } = first
      return Effect.flatMap(takeTags("set", tenantId, tags, ttlMs + graceMs), (marks) =>
        database.run(sql.set(writes, encodeMarks(marks)))
      )
    },

    setIfAbsent: (write) =>
      Effect.flatMap(takeTags("setIfAbsent", write.tenantId, write.tags, write.ttlMs + write.graceMs), (marks) =>
        database.run(sql.setIfAbsent(write, encodeMarks(marks)))
      ),

    touch: ({ key, tenantId }, ttlMs) =>
      Effect.flatMap(database.run(sql.touch(tenantId, key, ttlMs)), (touched) => {
        if (touched === null) return Effect.succeed(false)
        const tags = decodeMarks(touched.marks).map(({ name }) => name)
        return Effect.as(takeTags("touch", tenantId, tags, ttlMs + touched.graceMs), true)
      }),

    remove: (tenantId, keys) => database.run(sql.remove(tenantId, keys)),

    expire: (tenantId, keys) => database.run(sql.expire(tenantId, keys)),

    invalidateTags: (tenantId, tags) => database.run(sql.invalidateTags(tenantId, tags)),

    expireTags: (tenantId, tags) => database.run(sql.expireTags(tenantId, tags)),

    begin: ({ keys, leaseMs, refreshMs, tags, tenantId, token }) =>
      Effect.gen(function* () {
        const taken = yield* takeTags("begin", tenantId, tags, leaseMs)
        const granted = yield* database.run(sql.begin(tenantId, keys, token, leaseMs, encodeMarks(taken), refreshMs))
        const entries = yield* database.run(sql.getMany("begin", tenantId, keys))
        return keys.map((key, i): Begun => {
          const entry = entries[i] ?? null
          if (granted.has(key)) return { _tag: "Granted", ticket: { tenantId, key, token, tags: taken }, entry }
          const isFresh = entry !== null && entry.freshMs > 0
          return isFresh && (entry.freshMs === Number.POSITIVE_INFINITY || entry.freshMs > refreshMs)
            ? { _tag: "Fresh", entry }
            : { _tag: "Busy", entry }
        })
      }),

    renew: (tickets, leaseMs) =>
      Effect.gen(function* () {
        const [first] = tickets
        if (first === undefined) return []
        const stands = yield* standing("renew", first, leaseMs)
        const keys = tickets.map(({ key }) => key).sort()
        const renewed = yield* database.run(sql.renew(first.tenantId, keys, first.token, leaseMs))
        return tickets.map(({ key }) => stands && renewed.has(key))
      }),

    settle: (settlements) =>
      Effect.gen(function* () {
        const [first] = settlements
        if (first === undefined) return []
        const { tenantId, token } = first.ticket
        const stands = yield* standing("settle", first.ticket, keepOf(settlements))
        const writes: Array<EncodedWrite> = []
        const releases = new Map<number, Array<string>>()
        for (const { holdMs, ticket, write } of settlements) {
          if (write !== null && stands) writes.push(write)
          // A ticket whose tags have changed is void, and held on or not gives way.
          else releases.set(holdMs, [...(releases.get(holdMs) ?? []), ticket.key])
        }
        const settled = new Set<string>()
        if (writes.length > 0) {
          const filled = yield* database.run(sql.fill(writes, encodeMarks(tagsIn(first.ticket)), token))
          for (const key of filled) settled.add(key)
        }
        for (const [holdMs, keys] of releases) {
          const released = yield* database.run(sql.release(tenantId, keys, token, holdMs))
          for (const key of released) settled.add(key)
        }
        return settlements.map(({ ticket }) => stands && settled.has(ticket.key))
      }),

    list: (tenantId, prefix) => pages(tenantId, prefix, ""),

    replace: (place, was, payload) => database.run(sql.replace(place, was, payload)),

    addresses: addresses(firstAddress),

    count: (tenantId, prefix) => database.run(sql.count(tenantId, prefix)),

    reset: (tenantId) => database.run(sql.reset(tenantId)),

    info: Effect.map(database.run(sql.countAll), (entries) => ({
      backend: "Pg",
      connection: database.connection,
      entries
    })),

    note: (name, value) => database.run(note(names, "CacheStore", name, value)),

    inTransaction: Effect.withFiberRuntime((fiber) => Effect.succeed(database.inTransaction(fiber)))
  }

  const purgeAll = (table: "entries" | "tags") =>
    Effect.repeat(database.run(sql.purge(table)), { while: (gone) => gone === purgeBatch })
  const purging = Effect.zipRight(Effect.ignore(purgeAll("entries")), Effect.ignore(purgeAll("tags"))).pipe(
    Effect.repeat(Schedule.spaced(purgeEvery))
  )
  return Effect.as(Effect.forkScoped(Effect.delay(purging, purgeEvery)), encoded)
}
