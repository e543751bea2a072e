/**
 * The EventStore's statements on SQLite, each in one place. All are prepared once per connection; a filter has one text
 * per set of conditions. Keywords are in capitals.
 */
import type { DistinctField } from "../../EventStore.js"
import type { EncodedFilter } from "../../eventStore/EventStoreEncoded.js"
import type { Direction } from "../../internal/pages.js"
import { lookedUp, mergedTypes, partOf, type Way } from "../../sql/eventLookups.js"
import { column, columns, streamColumns } from "../../sql/eventRows.js"
import { eventConditions } from "../../sql/filters.js"
import { anyOf, filtered, unindexed } from "../database/filters.js"
import { boundsOf, distinctOf, looseOf, type Query, type Source, stretchOf } from "../database/logQueries.js"
import type { Names } from "../database/names.js"

const inStream = "tenant_id = ? AND domain = ? AND aggregate_id = ?"

const conditions = eventConditions(anyOf)

/**
 * Command ids have an index in their order. SQLite would look up the tenant instead, read its rows all over the file,
 * and sort them. A single aggregate has few rows.
 */
export const isInOrder = (field: DistinctField, { aggregateId }: EncodedFilter): boolean =>
  field === "commandId" && aggregateId === null

const byCommand: Way = { name: "command", columns: ["command_id"], inOrder: false }

const orderOf = (direction: Direction): string => (direction === "forward" ? "" : " DESC")

/** The columns of events; of those that an index has, only the way's own can be looked up. */
const columnsBy = ({ columns: own }: Way): string =>
  columns
    .split(", ")
    .map((name) => {
      const column = lookedUp.find((column) => column === name)
      return column === undefined || own.includes(column) ? name : `${unindexed(column)} AS ${name}`
    })
    .join(", ")

export const make = (names: Names) => {
  const events = names.qualified("events")
  const revisions = names.qualified("revisions")

  /** The events of a filter, found in a way, or in whichever SQLite chooses. */
  const found = (way: Way | undefined, filter: EncodedFilter): Source => {
    if (way === undefined) return { from: events, before: [], ...filtered(conditions, filter) }
    const types = mergedTypes(filter, way)
    const all = `SELECT ${columnsBy(way)} FROM ${events}`
    const parts = types.length === 0 ? [all] : types.map(() => `${all} WHERE type = ?`)
    return {
      from: `(${parts.join(" UNION ALL ")})`,
      before: types,
      ...filtered(conditions, types.length === 0 ? filter : { ...filter, types: null })
    }
  }

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

    /**
     * How many events a way has in a range of positions, and the last position: takes `before`, the range, `params` and
     * how many to look at. A way without order is looked at as a whole: it takes no range.
     */
    look: (filter: EncodedFilter, way: Way, direction: Direction): Query => {
      const { before, from, params, where } = found(way, partOf(filter, way))
      const last = direction === "forward" ? "max" : "min"
      const text = way.inOrder
        ? `SELECT count(*), coalesce(${last}(position), 0) FROM (
             SELECT position FROM ${from} WHERE position > ? AND position <= ?${where}
             ORDER BY position${orderOf(direction)} LIMIT ?
           )`
        : `SELECT count(*), 0 FROM (SELECT 1 FROM ${from} WHERE true${where} LIMIT ?)`
      return { text, before, params }
    },

    /** Takes `before`, the range of positions, `params` and the limit. */
    readFeed: (filter: EncodedFilter, direction: Direction, way: Way): Query => {
      const { before, from, params, where } = found(way, filter)
      // Of one stream the order of versions is that of positions, and has an index.
      const key = way.name === "stream" ? "version" : "position"
      const text = `SELECT ${columns} FROM ${from} WHERE position > ? AND position <= ?${where}
        ORDER BY ${key}${orderOf(direction)} LIMIT ?`
      return { text, before, params }
    },

    get: `SELECT ${columns} FROM ${events} WHERE id = ?`,

    byIds: `SELECT changed, ${columns} FROM ${events} WHERE id IN (SELECT value FROM json_each(?))`,

    /** By the index that has the values in order. */
    distinctInOrder: (field: DistinctField, filter: EncodedFilter): Query =>
      distinctOf(column[field], found(byCommand, filter)),

    /** Every value by a look-up of the next one. */
    distinctLoose: (field: DistinctField, filter: EncodedFilter): Query =>
      looseOf(column[field], events, filtered(conditions, filter)),

    distinct: (field: DistinctField, filter: EncodedFilter, way: Way | undefined): Query =>
      distinctOf(column[field], found(way, filter)),

    distinctStretch: (field: DistinctField, filter: EncodedFilter, way: Way): Query =>
      stretchOf(column[field], found(way, filter)),

    bounds: boundsOf(events),

    count: (filter: EncodedFilter, way: Way | undefined): Query => {
      const { before, from, params, where } = found(way, filter)
      return { text: `SELECT count(*) FROM ${from} WHERE true${where}`, before, params }
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
