/**
 * The CacheStore's port on SQLite: steps that look and then write, each in one transaction. Times are those of the
 * machine, which is the same for all processes that have the file open.
 */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type {
  BeginRequest,
  Begun,
  Encoded,
  EncodedAddress,
  EncodedEntry,
  EncodedListed,
  EncodedWrite,
  Place,
  Settlement,
  Ticket
} from "../../cacheStore/CacheStoreEncoded.js"
import type { ReadFailure, StoreFailure } from "../../Errors.js"
import { nextAfter, type Pages, pageSize } from "../../internal/pages.js"
import {
  type AddressRow,
  addressFrom,
  decodeMarks,
  encodeMarks,
  entryOf,
  ever,
  finite,
  firstAddress,
  keepOf,
  purgeBatch,
  sameMarks,
  sum,
  type TagMark
} from "../../sql/cacheRows.js"
import type { StoreAccess } from "../database/access.js"
import type { StepConnection } from "../database/connection.js"
import type { Names } from "../database/names.js"
import { makeNote } from "../database/notes.js"

type Row = readonly [
  key: string,
  token: string | null,
  leaseMs: number,
  marks: string | null,
  freshMs: number,
  keptMs: number,
  graceMs: number,
  tags: string | null,
  keyId: string | null,
  value: string | null
]

type TagRow = readonly [generation: string, expiries: number, expiredMs: number, keptMs: number]

const columns = "key, token, lease_ms, marks, fresh_ms, kept_ms, grace_ms, tags, key_id, value"

/** Between two looks for what is at its end. */
const purgeEvery = "5 seconds"

export const make = (database: StoreAccess, names: Names): Effect.Effect<Encoded, never, Scope.Scope> => {
  const entries = names.qualified("cache_entries")
  const tags = names.qualified("cache_tags")
  const at = "tenant_id = ? AND key = ?"
  const sql = {
    row: `SELECT ${columns} FROM ${entries} WHERE ${at}`,
    put: `INSERT INTO ${entries} (tenant_id, ${columns}, end_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant_id, key) DO UPDATE SET token = excluded.token, lease_ms = excluded.lease_ms, marks = excluded.marks,
  fresh_ms = excluded.fresh_ms, kept_ms = excluded.kept_ms, grace_ms = excluded.grace_ms, tags = excluded.tags,
  key_id = excluded.key_id, value = excluded.value, end_ms = excluded.end_ms`,
    ticket: `UPDATE ${entries} SET token = ?, lease_ms = ?, marks = ?, end_ms = ? WHERE ${at}`,
    times: `UPDATE ${entries} SET fresh_ms = ?, kept_ms = ?, end_ms = ? WHERE ${at}`,
    delete: `DELETE FROM ${entries} WHERE ${at}`,
    replace: `UPDATE ${entries} SET value = ?, key_id = ? WHERE ${at} AND value = ? AND key_id IS ?`,
    addresses: `SELECT tenant_id, key, key_id FROM ${entries}
WHERE (tenant_id, key) > (?, ?) AND value IS NOT NULL AND kept_ms > ? ORDER BY tenant_id, key LIMIT ?`,
    page: `SELECT ${columns} FROM ${entries}
WHERE tenant_id = ? AND key > ? AND key >= ? AND fresh_ms > ? ORDER BY key LIMIT ?`,
    all: `SELECT tenant_id, ${columns} FROM ${entries}
WHERE (tenant_id, key) > (?, ?) AND fresh_ms > ? ORDER BY tenant_id, key LIMIT ?`,
    tag: `SELECT generation, expiries, expired_ms, kept_ms FROM ${tags} WHERE tenant_id = ? AND tag = ?`,
    putTag: `INSERT INTO ${tags} (tenant_id, tag, generation, expiries, expired_ms, kept_ms) VALUES (?, ?, ?, 0, 0, ?)`,
    keepTag: `UPDATE ${tags} SET kept_ms = ? WHERE tenant_id = ? AND tag = ?`,
    deleteTag: `DELETE FROM ${tags} WHERE tenant_id = ? AND tag = ?`,
    expireTag: `UPDATE ${tags} SET expiries = expiries + 1, expired_ms = ? WHERE tenant_id = ? AND tag = ?`,
    resetEntries: `DELETE FROM ${entries}`,
    resetTags: `DELETE FROM ${tags}`,
    clearEntries: `DELETE FROM ${entries} WHERE tenant_id = ?`,
    clearTags: `DELETE FROM ${tags} WHERE tenant_id = ?`,
    ended: `SELECT EXISTS (SELECT 1 FROM ${entries} WHERE end_ms < ${ever} AND end_ms <= ?)
  OR EXISTS (SELECT 1 FROM ${tags} WHERE kept_ms < ${ever} AND kept_ms <= ?)`,
    purgeEntries: `DELETE FROM ${entries} WHERE rowid IN (
  SELECT rowid FROM ${entries} WHERE end_ms < ${ever} AND end_ms <= ? LIMIT ${purgeBatch}
)`,
    purgeTags: `DELETE FROM ${tags} WHERE rowid IN (
  SELECT rowid FROM ${tags} WHERE kept_ms < ${ever} AND kept_ms <= ? LIMIT ${purgeBatch}
)`
  }

  const run = (connection: StepConnection, text: string, ...params: ReadonlyArray<unknown>): number =>
    connection.prepare(text).run(...params).changes

  const atomically = <A>(operation: string, step: (connection: StepConnection, nowMs: number) => A) =>
    database.writeGrouped(operation, (connection) =>
      connection.atomically(operation, () => step(connection, Date.now()))
    )

  const reading = <A>(operation: string, step: (connection: StepConnection, nowMs: number) => A) =>
    database.read(operation, (connection) => connection.consistently(() => step(connection, Date.now())))

  const rowAt = (connection: StepConnection, { key, tenantId }: Place): Row | undefined =>
    connection.prepare(sql.row).get(tenantId, key) as Row | undefined

  const tagAt = (connection: StepConnection, tenantId: string, tag: string): TagRow | undefined =>
    connection.prepare(sql.tag).get(tenantId, tag) as TagRow | undefined

  /** What the row is by its times and by its tags; null for absent. */
  const judge = (
    connection: StepConnection,
    tenantId: string,
    row: Row | undefined,
    nowMs: number
  ): EncodedEntry | null => {
    if (row === undefined) return null
    const [, , , , freshMs, keptMs, graceMs, marks, keyId, value] = row
    if (value === null) return null
    let fresh = freshMs
    let kept = keptMs
    for (const { expiries, generation, name } of decodeMarks(marks)) {
      const tag = tagAt(connection, tenantId, name)
      if (tag?.[0] !== generation) return null
      if (tag[1] !== expiries) {
        fresh = Math.min(fresh, nowMs)
        kept = Math.min(kept, sum(tag[2], graceMs))
      }
    }
    return kept > nowMs ? entryOf(value, keyId, fresh, nowMs, marks) : null
  }

  const look = (connection: StepConnection, place: Place, nowMs: number): EncodedEntry | null =>
    judge(connection, place.tenantId, rowAt(connection, place), nowMs)

  const isFresh = (entry: EncodedEntry | null): entry is EncodedEntry => entry !== null && entry.freshMs > 0

  const put = (connection: StepConnection, write: EncodedWrite, marks: string | null, nowMs: number): void => {
    const { graceMs, key, keyId, tenantId, ttlMs, value } = write
    const fresh = sum(nowMs, finite(ttlMs))
    const kept = sum(fresh, finite(graceMs))
    run(connection, sql.put, tenantId, key, null, 0, null, fresh, kept, finite(graceMs), marks, keyId, value, kept)
  }

  /** Generations as they are now, made where there are none, to live for so long at least. */
  const takeTags = (
    connection: StepConnection,
    tenantId: string,
    names: ReadonlyArray<string>,
    keepMs: number,
    nowMs: number
  ): ReadonlyArray<TagMark> => {
    const until = sum(nowMs, finite(keepMs))
    // Longer than it must, so that not every write of an entry is one of its tags.
    const longer = sum(until, finite(keepMs))
    return names.map((name) => {
      const [generation, expiries, , kept] = tagAt(connection, tenantId, name) ?? [randomUUID(), 0, 0, undefined]
      if (kept === undefined) run(connection, sql.putTag, tenantId, name, generation, longer)
      else if (kept < until) run(connection, sql.keepTag, longer, tenantId, name)
      return { name, generation, expiries }
    })
  }

  const tagsIn = (ticket: Ticket): ReadonlyArray<TagMark> => ticket.tags as ReadonlyArray<TagMark>

  /** The row of a ticket that is still there. */
  const held = (connection: StepConnection, ticket: Ticket, nowMs: number): Row | undefined => {
    const row = rowAt(connection, ticket)
    return row !== undefined && row[1] === ticket.token && row[2] > nowMs ? row : undefined
  }

  const begin = (
    connection: StepConnection,
    { keys, leaseMs, refreshMs, tags, tenantId, token }: BeginRequest,
    nowMs: number
  ): ReadonlyArray<Begun> => {
    const taken = takeTags(connection, tenantId, tags, leaseMs, nowMs)
    const marks = encodeMarks(taken)
    const lease = sum(nowMs, finite(leaseMs))
    return keys.map((key): Begun => {
      const place = { tenantId, key }
      const row = rowAt(connection, place)
      const entry = judge(connection, tenantId, row, nowMs)
      if (isFresh(entry) && (entry.freshMs === Number.POSITIVE_INFINITY || entry.freshMs > refreshMs)) {
        return { _tag: "Fresh", entry }
      }
      // A ticket with other marks is void, or for other tags, and gives way.
      const isBusy = row !== undefined && row[1] !== null && row[2] > nowMs && row[3] === marks
      if (isBusy && row[1] !== token) return { _tag: "Busy", entry }
      if (row === undefined) {
        run(connection, sql.put, tenantId, key, token, lease, marks, 0, 0, 0, null, null, null, lease)
      } else run(connection, sql.ticket, token, lease, marks, Math.max(row[5], lease), tenantId, key)
      return { _tag: "Granted", ticket: { ...place, token, tags: taken }, entry }
    })
  }

  const settle = (
    connection: StepConnection,
    settlements: ReadonlyArray<Settlement>,
    nowMs: number
  ): ReadonlyArray<boolean> => {
    const [first] = settlements
    if (first === undefined) return []
    const marks = tagsIn(first.ticket)
    const { tenantId } = first.ticket
    const names = marks.map(({ name }) => name)
    const standing = sameMarks(marks, takeTags(connection, tenantId, names, keepOf(settlements), nowMs))
    return settlements.map(({ holdMs, ticket, write }) => {
      const row = held(connection, ticket, nowMs)
      if (row === undefined) return false
      if (write !== null && standing) put(connection, write, encodeMarks(marks), nowMs)
      else {
        const [, token, , own, , keptMs, , , , value] = row
        // A ticket whose tags have changed is void, and held on or not gives way.
        const hold = nowMs + holdMs
        if (holdMs > 0) run(connection, sql.ticket, token, hold, own, Math.max(keptMs, hold), tenantId, ticket.key)
        else if (value === null) run(connection, sql.delete, tenantId, ticket.key)
        else run(connection, sql.ticket, null, 0, null, keptMs, tenantId, ticket.key)
      }
      return standing
    })
  }

  const listPage = (tenantId: string, prefix: string, after: string): Pages<EncodedListed, ReadFailure> =>
    Effect.map(
      reading("list", (connection, nowMs) => {
        const rows = connection.prepare(sql.page).all(tenantId, after, prefix, nowMs, pageSize) as ReadonlyArray<Row>
        const items = rows.flatMap((row) => {
          const entry = row[0].startsWith(prefix) ? judge(connection, tenantId, row, nowMs) : null
          return isFresh(entry) ? [{ key: row[0], freshMs: entry.freshMs }] : []
        })
        // In the order of their bytes, keys that begin so stand together.
        const last = rows.length === pageSize ? rows[rows.length - 1]?.[0] : undefined
        return { items, last: last?.startsWith(prefix) ? last : undefined }
      }),
      ({ items, last }) => ({ items, next: last === undefined ? undefined : listPage(tenantId, prefix, last) })
    )

  const addresses = ({ key, tenantId }: Place): Pages<EncodedAddress, ReadFailure> =>
    Effect.map(
      reading("addresses", (connection, nowMs) =>
        (connection.prepare(sql.addresses).all(tenantId, key, nowMs, pageSize) as ReadonlyArray<AddressRow>).map(
          addressFrom
        )
      ),
      (items) => nextAfter(items, addresses)
    )

  const drain = (page: Pages<unknown, ReadFailure>, count = 0): Effect.Effect<number, ReadFailure> =>
    Effect.flatMap(page, ({ items, next }) =>
      next === undefined ? Effect.succeed(count + items.length) : drain(next, count + items.length)
    )

  const allPage = (tenantId: string, key: string): Pages<null, ReadFailure> =>
    Effect.map(
      reading("info", (connection, nowMs) => {
        const rows = connection.prepare(sql.all).all(tenantId, key, nowMs, pageSize) as ReadonlyArray<
          readonly [tenantId: string, ...row: Row]
        >
        const items = rows.flatMap(([tenantId, ...row]) =>
          isFresh(judge(connection, tenantId, row, nowMs)) ? [null] : []
        )
        return { items, last: rows.length === pageSize ? rows[rows.length - 1] : undefined }
      }),
      ({ items, last }) => ({ items, next: last === undefined ? undefined : allPage(last[0], last[1]) })
    )

  /** A batch of each table; tells whether there may be more. Looks first, so that a table without any is not locked. */
  const purge: Effect.Effect<boolean, StoreFailure> = Effect.flatMap(
    reading("purge", (connection, nowMs) => (connection.prepare(sql.ended).get(nowMs, nowMs) as [number])[0] === 1),
    (some) =>
      some
        ? atomically("purge", (connection, nowMs) => {
            const gone = run(connection, sql.purgeEntries, nowMs)
            return gone + run(connection, sql.purgeTags, nowMs) >= purgeBatch
          })
        : Effect.succeed(false)
  )

  const encoded: Encoded = {
    get: (place) => reading("get", (connection, nowMs) => look(connection, place, nowMs)),

    getMany: (tenantId, keys) =>
      reading("getMany", (connection, nowMs) => keys.map((key) => look(connection, { tenantId, key }, nowMs))),

    set: (writes) =>
      atomically("set", (connection, nowMs) => {
        const [first] = writes
        if (first === undefined) return
        const { graceMs, tags, tenantId, ttlMs } = first
        const marks = encodeMarks(takeTags(connection, tenantId, tags, ttlMs + graceMs, nowMs))
        for (const write of writes) put(connection, write, marks, nowMs)
      }),

    setIfAbsent: (write) =>
      atomically("setIfAbsent", (connection, nowMs) => {
        if (isFresh(look(connection, write, nowMs))) return false
        const { graceMs, tags, tenantId, ttlMs } = write
        put(connection, write, encodeMarks(takeTags(connection, tenantId, tags, ttlMs + graceMs, nowMs)), nowMs)
        return true
      }),

    touch: (place, ttlMs) =>
      atomically("touch", (connection, nowMs) => {
        const { key, tenantId } = place
        const row = rowAt(connection, place)
        const entry = judge(connection, tenantId, row, nowMs)
        if (row === undefined || !isFresh(entry)) return false
        const [, , leaseMs, , , , graceMs] = row
        const fresh = sum(nowMs, finite(ttlMs))
        const kept = sum(fresh, graceMs)
        takeTags(connection, tenantId, entry.tags, kept - nowMs, nowMs)
        run(connection, sql.times, fresh, kept, Math.max(kept, leaseMs), tenantId, key)
        return true
      }),

    remove: (tenantId, keys) =>
      atomically("delete", (connection) => {
        for (const key of keys) run(connection, sql.delete, tenantId, key)
      }),

    expire: (tenantId, keys) =>
      atomically("expire", (connection, nowMs) => {
        for (const key of keys) {
          const row = rowAt(connection, { tenantId, key })
          if (row === undefined) continue
          const [, , , , freshMs, keptMs, graceMs, , , value] = row
          const kept = freshMs > nowMs ? Math.min(keptMs, sum(nowMs, graceMs)) : keptMs
          if (value === null || kept <= nowMs) run(connection, sql.delete, tenantId, key)
          else {
            run(connection, sql.ticket, null, 0, null, kept, tenantId, key)
            run(connection, sql.times, Math.min(freshMs, nowMs), kept, kept, tenantId, key)
          }
        }
      }),

    invalidateTags: (tenantId, names) =>
      atomically("invalidate", (connection) => {
        for (const name of names) run(connection, sql.deleteTag, tenantId, name)
      }),

    expireTags: (tenantId, names) =>
      atomically("expire", (connection, nowMs) => {
        for (const name of names) run(connection, sql.expireTag, nowMs, tenantId, name)
      }),

    begin: (request) => atomically("begin", (connection, nowMs) => begin(connection, request, nowMs)),

    renew: (tickets, leaseMs) =>
      atomically("renew", (connection, nowMs) => {
        const [first] = tickets
        if (first === undefined) return []
        const marks = tagsIn(first)
        const names = marks.map(({ name }) => name)
        const standing = sameMarks(marks, takeTags(connection, first.tenantId, names, leaseMs, nowMs))
        return tickets.map((ticket) => {
          const row = held(connection, ticket, nowMs)
          if (row === undefined) return false
          const lease = nowMs + leaseMs
          run(connection, sql.ticket, row[1], lease, row[3], Math.max(row[5], lease), ticket.tenantId, ticket.key)
          return standing
        })
      }),

    settle: (settlements) => atomically("settle", (connection, nowMs) => settle(connection, settlements, nowMs)),

    list: (tenantId, prefix) => listPage(tenantId, prefix, ""),

    replace: ({ key, tenantId }, was, payload) =>
      atomically("replace", (connection) => {
        const params = [payload.value, payload.keyId, tenantId, key, was.value, was.keyId]
        return run(connection, sql.replace, ...params) > 0
      }),

    addresses: addresses(firstAddress),

    count: (tenantId, prefix) => drain(listPage(tenantId, prefix, "")),

    reset: (tenantId) =>
      atomically("reset", (connection) => {
        if (tenantId === null) {
          run(connection, sql.resetEntries)
          run(connection, sql.resetTags)
        } else {
          run(connection, sql.clearEntries, tenantId)
          run(connection, sql.clearTags, tenantId)
        }
      }),

    info: Effect.map(drain(allPage("", "")), (entries) => ({
      backend: "Sqlite",
      connection: database.connection,
      entries
    })),

    note: makeNote(database, names, "CacheStore"),

    inTransaction: database.read("get", ({ inTransaction }) => inTransaction).pipe(Effect.orElseSucceed(() => false))
  }

  const purging = purge.pipe(
    Effect.repeat({ while: (more) => more }),
    Effect.ignore,
    Effect.repeat(Schedule.spaced(purgeEvery))
  )
  return Effect.as(Effect.forkScoped(Effect.delay(purging, purgeEvery)), encoded)
}
