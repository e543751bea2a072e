/**
 * Positions are drawn from a sequence, which must not be behind its table. It is after a restore of the rows alone, or
 * a `setval`. Then positions that are taken would be drawn again, and below them those that were burned: an event
 * there would be passed by readers who have read further. It is refused and not repaired, since only the operator knows
 * how far readers have come (docs/decisions/09-a-sequence-behind-its-table.md).
 */
import * as Effect from "effect/Effect"
import { StoreError, type StoreFailure } from "../../../Errors.js"
import type { Statement, StoreAccess } from "../access.js"
import type { Names } from "../names.js"

/** By name, without the prefix. */
export interface Positions {
  readonly table: string
  readonly sequence: string
}

/** What errors say. Also in a string of SQL. */
export const behind = (names: Names, { sequence, table }: Positions): string => {
  const [of, drawnFrom] = [names.qualified(table), names.qualified(sequence)]
  const cure = `select setval('${drawnFrom}', (select max(position) from ${of}))`
  return (
    `the sequence ${drawnFrom} is behind the positions in ${of}, as after a restore of the rows alone: ` +
    `run ${cure}, or set it higher if a reader has come further`
  )
}

/**
 * Whether a row has a position that was not drawn yet. One statement: its snapshot is taken before the sequence is
 * read, so what it sees was drawn before. By order and limit, since the planner would answer EXISTS by a scan of the
 * whole table.
 */
export const isBehind = (names: Names, { sequence, table }: Positions): string => `(
    select p.position from ${names.qualified(table)} p
    where p.position > (select coalesce(pg_sequence_last_value('${names.qualified(sequence)}'::regclass), 0))
    order by p.position limit 1
  ) is not null`

const ask = (names: Names, positions: Positions): Statement<boolean, "read"> => ({
  text: `select case
      when has_sequence_privilege('${names.qualified(positions.sequence)}', 'select, usage')
      then ${isBehind(names, positions)} else false end`,
  rowMode: "array",
  operation: "checking positions",
  kind: "read",
  onResult: ({ rows }) => (rows[0] as readonly [string])[0] === "t"
})

/** Skipped by those who may not see the sequence, and so draw none. */
export const check = ({ run }: StoreAccess, names: Names, positions: Positions): Effect.Effect<void, StoreFailure> =>
  Effect.flatMap(run(ask(names, positions)), (found) =>
    found
      ? Effect.fail(new StoreError({ operation: "checking positions", cause: new Error(behind(names, positions)) }))
      : Effect.void
  )
