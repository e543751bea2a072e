/**
 * Contract of `replace`, which the ports of all stores with records have: a payload is changed only by those who know
 * what is stored. What seals anew relies on it.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { isSealed } from "../internal/lifted.js"
import { range, type Test } from "./suite.js"

/** One stored record, as its port gives it. */
export interface Replaceable<Row extends object> {
  readonly port: object
  readonly read: Effect.Effect<Row | null, unknown>
  readonly replace: (was: Row, now: Row) => Effect.Effect<boolean, unknown>
  readonly remove: Effect.Effect<unknown, unknown>
  /** What else the test has stored. */
  readonly others: Effect.Effect<unknown, unknown>
  /** The record with another payload; one function for each payload that `replace` compares. */
  readonly changes: ReadonlyArray<(row: Row, n: number) => Row>
  /** The record under another key, as if something had sealed it. */
  readonly sealed: (row: Row, keyId: string) => Row
}

const there = <Row extends object>({ read }: Replaceable<Row>) =>
  Effect.map(read, (row) => {
    assert.ok(row !== null, "the record must be there")
    return row
  })

/** `make` stores records and returns one of them. */
export const replace = <S, Row extends object>(
  test: Test<S>,
  make: Effect.Effect<Replaceable<Row>, unknown, S | Scope.Scope>
): void => {
  test("the port replaces payloads that are still as told, and nothing else", () =>
    Effect.gen(function* () {
      const record = yield* make
      const others = yield* record.others
      const first = yield* there(record)
      let row = first
      for (const change of record.changes) {
        const now = change(row, 1)
        assert.equal(yield* record.replace(now, now), false)
        assert.deepEqual(yield* there(record), row)
        assert.equal(yield* record.replace(row, now), true)
        assert.deepEqual(yield* there(record), now)
        assert.equal(yield* record.replace(row, change(row, 2)), false)
        assert.deepEqual(yield* there(record), now)
        row = now
      }
      // A port that seals has keys of its own.
      if (!isSealed(record.port)) {
        const now = record.sealed(row, "k1")
        assert.equal(yield* record.replace(row, now), true)
        assert.deepEqual(yield* there(record), now)
        row = now
      }
      assert.equal(yield* record.replace(row, first), true)
      assert.deepEqual(yield* there(record), first)
      assert.deepEqual(yield* record.others, others)
    }))

  test("of many replacements of one payload by the port one wins", () =>
    Effect.gen(function* () {
      const record = yield* make
      const [change] = record.changes
      assert.ok(change !== undefined)
      const row = yield* there(record)
      const racers = range(1, 16).map((n) => change(row, n))
      const won = yield* Effect.forEach(racers, (now) => record.replace(row, now), { concurrency: "unbounded" })
      assert.equal(won.filter(Boolean).length, 1)
      assert.deepEqual(yield* there(record), racers[won.indexOf(true)])
    }))

  test("the port replaces nothing where nothing is", () =>
    Effect.gen(function* () {
      const record = yield* make
      const row = yield* there(record)
      yield* record.remove
      assert.equal(yield* record.replace(row, row), false)
      assert.equal(yield* record.read, null)
    }))
}
