/**
 * Generators of what the CommandStore's tests store, comparisons of what they read, and a clock that can stand still
 * for one process. Every test has tenants and ids of its own instead of cleaning up.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Command, Filter, NewCommand } from "../../CommandStore.js"
import { CommandStore } from "../../CommandStore.js"
import { freshTenant } from "../eventStore/fixtures.js"
import { timeFilters } from "../log.js"
import type { Test as AnyTest } from "../suite.js"
import { collect } from "../suite.js"

export { freshTenant, streamOf } from "../eventStore/fixtures.js"
export { turns } from "../snapshotStore/fixtures.js"

export type Test = AnyTest<CommandStore>

let count = 0

export const newCommand = (fields: Partial<NewCommand> = {}): NewCommand => ({
  id: randomUUID(),
  tenantId: freshTenant(),
  domain: "order",
  type: "Place",
  data: { n: ++count },
  ...fields
})

export const ids = (commands: ReadonlyArray<{ readonly id: string }>): Array<string> => commands.map(({ id }) => id)

/** A command in a form that is compared by value: a DateTime computes parts of itself when it is looked at. */
export const plain = ({ createdAt, dueAt, finishedAt, ...command }: Command) => ({
  ...command,
  dueAt: dueAt?.epochMillis,
  createdAt: createdAt.epochMillis,
  finishedAt: finishedAt?.epochMillis
})

export const assertSameCommands = (actual: ReadonlyArray<Command>, expected: ReadonlyArray<Command>): void =>
  assert.deepEqual(actual.map(plain), expected.map(plain))

/** The command that must be stored under this id. */
export const stored = (id: string) =>
  Effect.flatMap(CommandStore, (store) =>
    Effect.map(store.get(id), (found) => {
      assert.ok(Option.isSome(found), `command ${id} must be stored`)
      return found.value
    })
  )

/** Nine commands that differ in every field that a filter knows, of which the tenant is the test's own. */
export const assortment = (tenantId: string) =>
  Effect.gen(function* () {
    const store = yield* CommandStore
    for (const [i, domain] of ["order", "invoice", "order"].entries()) {
      for (const [j, type] of ["Place", "Pay", "Ship"].entries()) {
        const { id } = yield* store.create(
          newCommand({
            tenantId,
            domain,
            type,
            instanceId: `instance-${i}`,
            createdAt: DateTime.unsafeMake(1000 * i + j)
          })
        )
        const status = (["received", "succeeded", "failed"] as const)[(i + j) % 3]
        if (status !== "received") yield* store.update(id, { status, outcome: { i, j } })
      }
    }
    return yield* collect(store.list({ filter: { tenantId } }))
  })

export const filters: ReadonlyArray<readonly [name: string, Filter, matches: (command: Command) => boolean]> = [
  ["domain", { domain: "invoice" }, ({ domain }) => domain === "invoice"],
  ["one type", { types: ["Pay"] }, ({ type }) => type === "Pay"],
  ["several types", { types: ["Pay", "Ship", "Never"] }, ({ type }) => type !== "Place"],
  ["a type that never was", { types: ["Never"] }, () => false],
  ["one status", { statuses: ["received"] }, ({ status }) => status === "received"],
  ["several statuses", { statuses: ["failed", "succeeded"] }, ({ status }) => status !== "received"],
  ...timeFilters,
  [
    "all of them together",
    {
      domain: "order",
      types: ["Place", "Pay"],
      statuses: ["received", "succeeded"],
      createdFrom: DateTime.unsafeMake(1),
      createdUntil: DateTime.unsafeMake(2002)
    },
    ({ createdAt, domain, status, type }) =>
      domain === "order" &&
      type !== "Ship" &&
      status !== "failed" &&
      createdAt.epochMillis >= 1 &&
      createdAt.epochMillis < 2002
  ]
]

/**
 * The clock of a process that can be paused: while it is, no sleep ends, so nothing is renewed. `gapMs` is the longest
 * time between the beginnings of two sleeps, or since the last: how late a renewal may have been.
 */
export const pausableClock = () => {
  const real = Clock.make()
  const gate = Effect.unsafeMakeLatch(true)
  let startedMs = real.unsafeCurrentTimeMillis()
  let longestMs = 0
  const beat = (): number => {
    const nowMs = real.unsafeCurrentTimeMillis()
    longestMs = Math.max(longestMs, nowMs - startedMs)
    startedMs = nowMs
    return longestMs
  }
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: () => real.unsafeCurrentTimeMillis(),
    unsafeCurrentTimeNanos: () => real.unsafeCurrentTimeNanos(),
    currentTimeMillis: real.currentTimeMillis,
    currentTimeNanos: real.currentTimeNanos,
    sleep: (duration) =>
      Effect.suspend(() => {
        beat()
        return Effect.zipLeft(real.sleep(duration), gate.await)
      })
  }
  return { clock, pause: gate.close, resume: gate.open, gapMs: Effect.sync(beat) }
}
