/**
 * The checks of `history.ts` on histories made by hand: what is right passes, and each kind of wrong is found. Without
 * this a concurrency or crash test that finds nothing would prove nothing.
 */
import { DateTime } from "effect"
import type { EventStore } from "effect-stores"
import { expect, it } from "vitest"
import {
  type Acknowledged,
  contradictions,
  lost,
  nothingStored,
  observe,
  payloadOf,
  type Refused,
  type Stored
} from "./history.js"

const id = (n: number) => `${n % 10}0000000-0000-4000-8000-${String(n).padStart(12, "0")}`

/** An append of one event that was begun and answered at these times. */
const append = (
  stream: string,
  version: number,
  [start, end]: readonly [number, number],
  guards: Acknowledged["guards"] = []
): Acknowledged => ({ writes: [{ stream, version, ids: [`${stream}-${version}`] }], guards, start, end })

const refusal = (expected: number, actual: number, start: number, end: number): Refused => ({
  conflict: { stream: "a", expected, actual },
  start,
  end
})

const storedAs = (versions: Readonly<Record<string, number>>): Stored => {
  const stored = nothingStored()
  for (const [stream, version] of Object.entries(versions)) {
    const ids = Array.from({ length: version }, (_, n) => `${stream}-${n + 1}`)
    stored.streams.set(stream, { ids, last: undefined })
  }
  return stored
}

it("a history in which each version is won once and each guard held has no contradiction", () => {
  const history = [
    append("a", 1, [0, 10]),
    append("b", 1, [5, 15], [{ stream: "a", expected: 1 }]),
    append("a", 2, [12, 30], [{ stream: "b", expected: 1 }])
  ]
  const stored = storedAs({ a: 2, b: 1 })
  expect(contradictions(stored, history, [refusal(0, 1, 1, 20), refusal(1, 2, 13, 40)])).toEqual([])
  expect(lost(stored, history)).toEqual([])
})

it("two winners of a version are found, and so is a version without one", () => {
  expect(contradictions(storedAs({ a: 1 }), [append("a", 1, [0, 9]), append("a", 1, [1, 9])], [])).toHaveLength(1)
  expect(contradictions(storedAs({ a: 2 }), [append("a", 2, [0, 9])], [])).toHaveLength(1)
  expect(contradictions(storedAs({ a: 2 }), [append("a", 1, [0, 9])], [])).toHaveLength(1)
})

it("an append that stands behind one that began after its answer is found", () => {
  const history = [append("a", 1, [20, 30]), append("a", 2, [0, 10])]
  expect(contradictions(storedAs({ a: 2 }), history, [])).toHaveLength(1)
})

it("two appends of which each was guarded by what the other changed are found", () => {
  const history = [
    append("a", 1, [0, 10], [{ stream: "b", expected: 0 }]),
    append("b", 1, [0, 10], [{ stream: "a", expected: 0 }])
  ]
  expect(contradictions(storedAs({ a: 1, b: 1 }), history, [])).toHaveLength(1)
})

it("a guard at a version that never was is found", () => {
  const history = [append("a", 1, [0, 10], [{ stream: "b", expected: 3 }]), append("b", 1, [0, 10])]
  expect(contradictions(storedAs({ a: 1, b: 1 }), history, [])).toHaveLength(1)
})

it("a conflict that tells an untruth is found", () => {
  const history = [append("a", 1, [0, 10]), append("a", 2, [20, 30])]
  const stored = storedAs({ a: 2 })
  // Not greater than what was expected; never there; not there yet; no longer there.
  for (const untruth of [refusal(1, 1, 5, 15), refusal(1, 3, 5, 35), refusal(1, 2, 12, 15), refusal(0, 1, 35, 40)]) {
    expect(contradictions(stored, history, [untruth])).toHaveLength(1)
  }
})

it("an acknowledged append that is not there, or is another, is found", () => {
  expect(lost(storedAs({ a: 1 }), [append("a", 2, [0, 10])])).toHaveLength(1)
  const stored = storedAs({ a: 1 })
  stored.streams.get("a")?.ids.splice(0, 1, "another")
  expect(lost(stored, [append("a", 1, [0, 10])])).toHaveLength(1)
})

it("half a batch, a batch that is torn apart, a gap, a repeated position and other data are found", () => {
  const event = (n: number, position: number, more: Partial<EventStore.Event> = {}): EventStore.Event => ({
    tenantId: "t",
    domain: "d",
    aggregateId: "a",
    id: id(n),
    version: n,
    position,
    type: "Happened",
    data: { ...payloadOf(id(n)) },
    metadata: { batch: "1", size: 2, place: n - 1 },
    commandId: undefined,
    instanceId: undefined,
    createdAt: DateTime.unsafeMake(0),
    ...more
  })
  const found = (events: ReadonlyArray<EventStore.Event>) => {
    const stored = nothingStored()
    for (const each of events) observe(stored, each)
    return lost(stored, []).length
  }
  const other = { metadata: { batch: "2", size: 1, place: 0 } }
  expect(found([event(1, 1), event(2, 5), event(3, 6, other)])).toBe(0)
  expect(found([event(1, 1)])).toBe(1)
  expect(found([event(1, 1), event(2, 2, other), event(3, 3, { metadata: event(2, 2).metadata })])).toBe(1)
  expect(found([event(1, 1), event(2, 2, { version: 3 })])).toBe(1)
  expect(found([event(1, 1), event(2, 1)])).toBe(1)
  expect(found([event(1, 1), event(2, 2, { data: { ...payloadOf(id(1)) } })])).toBe(1)
})
