/**
 * Contract of `forSchema`: commands as values of an application's Schema, executed and replayed.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { CommandStore, forSchema } from "../../CommandStore.js"
import { collect, failsWith, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshTenant, ids, newCommand, stored } from "./fixtures.js"

const Place = Schema.TaggedStruct("Place", { amount: Schema.NumberFromString, due: Schema.Option(Schema.Date) })
const Cancel = Schema.TaggedStruct("Cancel", {})
const Ship = Schema.TaggedStruct("Ship", {
  to: Schema.Struct({ city: Schema.String, note: Schema.optional(Schema.String) })
})
const commands = forSchema(Schema.Union(Place, Cancel, Ship))

const place = (amount: number) => Place.make({ amount, due: Option.some(new Date(amount)) })
const envelope = (tenantId = freshTenant()) => ({ id: randomUUID(), tenantId, domain: "order" })

export const typed = (test: Test): void => {
  test("a command is stored by its Schema, its tag as its type, and is read as it was", () =>
    Effect.gen(function* () {
      const given = envelope()
      const created = yield* commands.create(place(5), { ...given, metadata: { trace: "t" } })
      const { data, metadata, type } = yield* stored(given.id)
      assert.equal(type, "Place")
      assert.deepEqual(data, { amount: "5", due: { _tag: "Some", value: "1970-01-01T00:00:00.005Z" } })
      assert.deepEqual(metadata, { trace: "t" })
      const decoded = yield* commands.decode(created)
      assert.deepEqual(decoded.data, place(5))
      assert.deepEqual([decoded.id, decoded.position], [given.id, created.position])
      const bare = yield* commands.create(Cancel.make({}), envelope())
      assert.deepEqual([bare.type, bare.data], ["Cancel", {}])
      assert.deepEqual((yield* commands.decode(bare)).data, Cancel.make({}))
    }))

  test("a typed command is executed once, and a repeat with another content is refused", () =>
    Effect.gen(function* () {
      const given = envelope()
      let runs = 0
      const execute = (amount: number) =>
        commands.execute(
          place(amount),
          given,
          Effect.sync(() => new Date(++runs)),
          { success: Schema.Date }
        )
      assert.deepEqual([yield* execute(5), yield* execute(5)], [new Date(1), new Date(1)])
      yield* failsWith(execute(6), "DuplicateCommand")
      assert.equal(runs, 1)
    }))

  test("a command that does not fit the Schema is InvalidInput, and is neither stored nor executed", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = envelope()
      const misfit = { ...place(5), amount: "5" as never }
      const execute = commands.execute(misfit, given, Effect.die("must not run"), { success: Schema.Void })
      yield* failsWith(commands.create(misfit, given), "InvalidInput")
      yield* failsWith(execute, "InvalidInput")
      assert.ok(Option.isNone(yield* store.get(given.id)))
    }))

  test("a field that the Schema does not know is InvalidInput that names it, and nothing is stored or executed", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = envelope()
      const misspelt = { _tag: "Ship", to: { city: "Ulm", nota: "ring twice" } } as const
      const execute = commands.execute(misspelt, given, Effect.die("must not run"), { success: Schema.Void })
      for (const refused of [commands.encode(misspelt, given), commands.create(misspelt, given), execute]) {
        assert.match((yield* failsWith(refused, "InvalidInput")).why, /"nota"/)
      }
      assert.ok(Option.isNone(yield* store.get(given.id)))
    }))

  test("a replay gives the commands of a filter as they were, in their order, across pages", () =>
    Effect.gen(function* () {
      const tenantId = freshTenant()
      yield* Effect.forEach(range(1, 1_001), (i) => commands.create(place(i), envelope(tenantId)), { discard: true })
      yield* commands.create(Cancel.make({}), envelope(tenantId))
      const replayed = yield* collect(commands.replay({ tenantId, types: ["Place"] }))
      assert.deepEqual(
        replayed.map(({ data }) => data),
        range(1, 1_001).map(place)
      )
      const last = yield* collect(commands.replay({ tenantId, types: ["Cancel"] }))
      assert.deepEqual(
        last.map(({ data }) => data),
        [Cancel.make({})]
      )
    }))

  test("a replay can be narrowed by status and time, and what it decodes be executed elsewhere", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      const given = range(1, 4).map((i) => ({ ...envelope(tenantId), createdAt: DateTime.unsafeMake(i) }))
      for (const [i, one] of given.entries()) yield* commands.create(place(i), one)
      yield* store.update(given[1]?.id ?? "", { status: "failed" })
      yield* store.update(given[3]?.id ?? "", { status: "failed" })
      const failed = { tenantId, statuses: ["failed"], createdUntil: DateTime.unsafeMake(4) } as const
      const replayed = yield* collect(
        Stream.mapEffect(commands.replay(failed), ({ data, id }) =>
          Effect.as(commands.execute(data, envelope(), Effect.void, { success: Schema.Void }), { id })
        )
      )
      assert.deepEqual(ids(replayed), [given[1]?.id])
    }))

  test("a stored command that does not fit the Schema ends a replay with its id", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      yield* commands.create(place(1), envelope(tenantId))
      const misfit = yield* store.create(newCommand({ tenantId, type: "Place", data: { amount: [] } }))
      const error = yield* failsWith(collect(commands.replay({ tenantId })), "CommandDecodeError")
      assert.deepEqual([error.id, error.type, error.part], [misfit.id, "Place", "data"])
    }))
}
