/**
 * A state that is a Map of rows that are never changed in place, with the undoing of each change.
 */
import type * as Effect from "effect/Effect"
import type { ReadFailure } from "../../Errors.js"
import type { Database, Undo } from "./Database.js"

export interface Rows<V> {
  readonly get: (key: string) => V | undefined
  readonly values: () => IterableIterator<V>
  readonly size: number
  readonly set: (key: string, row: V) => void
  /** False when there is none. */
  readonly delete: (key: string) => boolean
  readonly clear: () => void
}

export interface KeptRows<V> {
  /** The order of rows means nothing: what is undone comes last. */
  readonly read: <A>(look: (rows: ReadonlyMap<string, V>) => A) => Effect.Effect<A, ReadFailure>
  readonly write: <A>(change: (rows: Rows<V>, now: () => number) => A) => Effect.Effect<A, ReadFailure>
}

export const keepRows = <V>(database: Database): KeptRows<V> => {
  const kept = database.keep(new Map<string, V>(), (rows) => new Map(rows))
  return {
    read: (look) => kept.read(look),
    write: (change) => kept.write((rows, undo, now) => change(undoable(rows, undo), now))
  }
}

const undoable = <V>(rows: Map<string, V>, undo: (undo: Undo<Map<string, V>>) => void): Rows<V> => {
  const keep = (key: string) => {
    const before = rows.get(key)
    undo((rows) => {
      if (before === undefined) rows.delete(key)
      else rows.set(key, before)
    })
  }
  return {
    get: (key) => rows.get(key),
    values: () => rows.values(),
    get size() {
      return rows.size
    },
    set: (key, row) => {
      keep(key)
      rows.set(key, row)
    },
    delete: (key) => {
      keep(key)
      return rows.delete(key)
    },
    clear: () => {
      const before = [...rows]
      undo((rows) => {
        for (const [key, row] of before) rows.set(key, row)
      })
      rows.clear()
    }
  }
}
