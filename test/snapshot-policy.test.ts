/**
 * Snapshot policies: when each of them says yes, how they compose, and what they refuse.
 */
import { Duration, FastCheck, pipe } from "effect"
import { Errors, SnapshotPolicy } from "effect-stores"
import { assert, expectTypeOf, it } from "vitest"

const sourcing = <S>(state: S, events: number, millis: number): SnapshotPolicy.Sourcing<S> => ({
  state,
  version: events,
  events,
  duration: Duration.millis(millis)
})

const refused = (make: () => unknown, what: string): void => {
  try {
    make()
  } catch (error) {
    assert.instanceOf(error, Errors.InvalidInput)
    assert.strictEqual((error as Errors.InvalidInput).what, what)
    return
  }
  assert.fail(`was taken: ${make}`)
}

it("every(n) says yes from n events on", () => {
  for (const n of [1, 2, 100, Number.MAX_SAFE_INTEGER]) {
    const policy = SnapshotPolicy.every(n)
    assert.deepStrictEqual(
      [n - 1, n, n + 1].map((events) => policy(sourcing(null, events, 0))),
      [false, true, true]
    )
  }
})

it("every refuses what is no whole number of at least 1", () => {
  for (const n of [0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, "3", null, undefined]) {
    refused(() => SnapshotPolicy.every(n as number), "events")
  }
})

it("sourcingOver(d) says yes when it took longer than d", () => {
  const policy = SnapshotPolicy.sourcingOver("20 millis")
  assert.deepStrictEqual(
    [0, 19, 20, 20.001, 5_000].map((millis) => policy(sourcing(null, 1, millis))),
    [false, false, false, true, true]
  )
  assert.isTrue(SnapshotPolicy.sourcingOver(0)(sourcing(null, 1, 0.000001)))
  assert.isFalse(SnapshotPolicy.sourcingOver(Duration.infinity)(sourcing(null, 1, 1e9)))
})

it("sourcingOver refuses what is no duration", () => {
  for (const duration of ["soon", "", null, undefined, {}]) {
    refused(() => SnapshotPolicy.sourcingOver(duration as Duration.DurationInput), "duration")
  }
})

it("when(predicate) asks the state, never says no", () => {
  const policy = SnapshotPolicy.when(({ closed }: { readonly closed: boolean }) => closed)
  assert.deepStrictEqual(
    [true, false].map((closed) => policy(sourcing({ closed }, 1, 0))),
    [true, false]
  )
  assert.isFalse(SnapshotPolicy.never(sourcing(null, 1e9, 1e9)))
})

it("or and and are those of logic, whichever argument comes first, and any policies compose", () => {
  type Expression = { readonly policy: SnapshotPolicy.SnapshotPolicy<unknown>; readonly value: boolean }
  const { tree } = FastCheck.letrec<{ tree: Expression; leaf: Expression }>((tie) => ({
    leaf: FastCheck.boolean().map((value) => ({ policy: SnapshotPolicy.when(() => value), value })),
    tree: FastCheck.oneof(
      { depthSize: "small" },
      tie("leaf"),
      FastCheck.tuple(tie("tree"), tie("tree"), FastCheck.boolean()).map(([a, b, dataFirst]) => ({
        policy: dataFirst ? SnapshotPolicy.or(a.policy, b.policy) : pipe(a.policy, SnapshotPolicy.or(b.policy)),
        value: a.value || b.value
      })),
      FastCheck.tuple(tie("tree"), tie("tree"), FastCheck.boolean()).map(([a, b, dataFirst]) => ({
        policy: dataFirst ? SnapshotPolicy.and(a.policy, b.policy) : pipe(a.policy, SnapshotPolicy.and(b.policy)),
        value: a.value && b.value
      }))
    )
  }))
  FastCheck.assert(FastCheck.property(tree, ({ policy, value }) => policy(sourcing(null, 1, 0)) === value))
})

it("a composed policy is for the states that all its parts are for", () => {
  const policy = pipe(
    SnapshotPolicy.every(100),
    SnapshotPolicy.or(SnapshotPolicy.sourcingOver("20 millis")),
    SnapshotPolicy.or(SnapshotPolicy.when((account: { readonly closed: boolean }) => account.closed)),
    SnapshotPolicy.and(SnapshotPolicy.when((account: { readonly owner: string }) => account.owner !== ""))
  )
  const state = { closed: true, owner: "x" }
  assert.isTrue(policy(sourcing(state, 1, 0)))
  assert.isFalse(policy(sourcing({ ...state, owner: "" }, 100, 0)))
  expectTypeOf(policy).toEqualTypeOf<
    SnapshotPolicy.SnapshotPolicy<{ readonly owner: string } & { readonly closed: boolean }>
  >()
})
