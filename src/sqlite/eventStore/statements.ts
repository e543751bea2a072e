/**
 * The EventStore's statements on SQLite, each in one place. All are prepared once per connection; a filter has one text
 * per set of conditions. Keywords are in capitals.
 */
import type { DistinctField } from "../../EventStore.js"
import { anyEvent, type EncodedFilter } from "../../eventStore/EventStoreEncoded.js"
import type { Direction } from "../../internal/pages.js"
import { column, columns, streamColumns } from "../../sql/eventRows.js"
import { eventConditions } from "../../sql/filters.js"
import { anyOf, filtered, unindexed } from "../database/filters.js"
import { boundsOf, distinctOf, fewOf } from "../database/logQueries.js"
import type { Names } from "../database/names.js"

const inStream = "tenant_id = ? AND domain = ? AND aggregate_id = ?"

const conditions = eventConditions(anyOf)
const unindexedConditions = eventConditions(anyOf, unindexed)

/**
 * Command ids have an index in their order. SQLite would look up the tenant instead, read its rows all over the file,
 * and sort them. A single aggregate has few rows.
 */
const isInOrder = (field: DistinctField, { aggregateId }: EncodedFilter): boolean =>
  field === "commandId" && aggregateId === null

/** The part of a filter that an index looks up: a command's events, or the beginning of a stream's address. */
const lookedUp = ({ aggregateId, commandId, domain, tenantId }: EncodedFilter): EncodedFilter | undefined => {
  if (commandId !== null) return { ...anyEvent, commandId }
  if (tenantId === null) return undefined
  return { ...anyEvent, tenantId, domain, aggregateId: domain === null ? null : aggregateId }
}

const orderOf = (direction: Direction): string => (direction === "forward" ? "" : " DESC")

/**
 * A filter for pages in order of position, as SQL text, the same for each shape of filter, and what to bind. By itself,
 * SQLite may look up part of a stream's address in the index and sort all events found, for every page; `+` keeps a
 * column from being looked up. Within one stream the index is right: it is in order of version, which is that of
 * position.
 */
const paged = (filter: EncodedFilter) => {
  const wholeStream = filter.tenantId !== null && filter.domain !== null && filter.aggregateId !== null
  return wholeStream
    ? { ...filtered(conditions, filter), position: "+position", order: "version" }
    : { ...filtered(unindexedConditions, filter), position: "position", order: "position" }
}

export const make = (names: Names) => {
  const events = names.qualified("events")
  const revisions = names.qualified("revisions")

  const insertWithVersion = (version: string): string =>
    `INSERT INTO ${events} (
       id, tenant_id, domain, aggregate_id, version, type, data, metadata, key_id, command_id, instance_id, created_ms
     ) VALUES (?, ?, ?, ?, ${version}, ?, ?, ?, ?, ?, ?, ?)`

  const readStream = (direction: Direction): string =>
    `SELECT ${streamColumns}, (SELECT revision FROM ${revisions} WHERE ${inStream})
     FROM ${events} WHERE ${inStream} AND version >= ? AND version <= ?
     ORDER BY version${orderOf(direction)} LIMIT ?`

  return {
    insert: insertWithVersion("?"),

    // These three yield NULL as the version, which the table refuses, if the stream is not as expected.
    insertAny: `${insertWithVersion(`(SELECT coalesce(max(version), 0) + 1 FROM ${events} WHERE ${inStream})`)}
      RETURNING version, position`,
    insertExists: `${insertWithVersion(`(SELECT max(version) + 1 FROM ${events} WHERE ${inStream})`)}
      RETURNING version, position`,
    insertAfter: insertWithVersion(`(SELECT version + 1 FROM ${events} WHERE ${inStream} AND version = ?)`),

    version: `SELECT coalesce(max(version), 0) FROM ${events} WHERE ${inStream}`,

    readStream: { forward: readStream("forward"), backward: readStream("backward") },

    // The sequence, since the positions of deleted events must stay below the head; and the table, which SQLite obeys
    // too where somebody has set the sequence behind it.
    head: `SELECT max(
      coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = '${events}'), 0),
      coalesce((SELECT max(position) FROM ${events}), 0)
    )`,

    readFeed: (filter: EncodedFilter, direction: Direction) => {
      const { order, params, position, where } = paged(filter)
      const text = `SELECT ${columns} FROM ${events} WHERE ${position} > ? AND ${position} <= ?${where}
        ORDER BY ${order}${orderOf(direction)} LIMIT ?`
      return { text, params }
    },

    get: `SELECT ${columns} FROM ${events} WHERE id = ?`,

    byIds: `SELECT changed, ${columns} FROM ${events} WHERE id IN (SELECT value FROM json_each(?))`,

    distinct: (field: DistinctField, filter: EncodedFilter) => {
      const inOrder = isInOrder(field, filter)
      const found = lookedUp(filter)
      return {
        inOrder,
        ...distinctOf(column[field], events, filtered(inOrder ? unindexedConditions : conditions, filter)),
        few: found === undefined ? undefined : fewOf(events, filtered(conditions, found))
      }
    },

    bounds: boundsOf(events),

    count: (filter: EncodedFilter) => {
      const { params, where } = filtered(conditions, filter)
      return { text: `SELECT count(*) FROM ${events} WHERE true${where}`, params }
    },

    // Every stream has one first event.
    info: `SELECT count(*), (SELECT count(*) FROM ${events} WHERE version = 1) FROM ${events}`,

    last: `SELECT ${columns} FROM ${events} ORDER BY position DESC LIMIT 1`,

    update: `UPDATE ${events} SET data = coalesce(?, data), metadata = coalesce(?, metadata), key_id = ?,
      changed = coalesce(?, changed) WHERE id = ?`,

    replace: `UPDATE ${events} SET data = ?, metadata = ?, key_id = ?, changed = coalesce(?, changed)
      WHERE id = ? AND data = ? AND metadata = ?`,

    revise: `INSERT INTO ${revisions} (tenant_id, domain, aggregate_id, revision)
      SELECT tenant_id, domain, aggregate_id, ? FROM ${events} WHERE id = ?
      ON CONFLICT DO UPDATE SET revision = excluded.revision`,

    deleteStream: `DELETE FROM ${events} WHERE ${inStream}`,
    deleteRevision: `DELETE FROM ${revisions} WHERE ${inStream}`,

    reset: `DELETE FROM ${events}`,
    resetRevisions: `DELETE FROM ${revisions}`
  }
}
