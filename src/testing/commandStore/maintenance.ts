/**
 * Contract of `update`, `delete`, `prune`, `info` and `reset`, and of a store that was opened read-only.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Changes, NewCommand, PruneOptions } from "../../CommandStore.js"
import { CommandStore } from "../../CommandStore.js"
import { collect, failsWith, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertSameCommands, freshTenant, ids, newCommand, plain, stored } from "./fixtures.js"

export const maintenance = (test: Test, { secrets }: { readonly secrets: ReadonlyArray<string> }): void => {
  test("an update changes data or metadata and keeps everything else", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const { id } = yield* store.create(newCommand({ metadata: { trace: "t" }, instanceId: "i" }))
      yield* store.update(id, { status: "succeeded", outcome: 1 })
      const before = plain(yield* stored(id))
      yield* store.update(id, { data: null })
      assert.deepEqual(plain(yield* stored(id)), { ...before, data: null })
      yield* store.update(id, { metadata: { by: "operator" } })
      assert.deepEqual(plain(yield* stored(id)), { ...before, data: null, metadata: { by: "operator" } })
      yield* store.update(id, { data: [1], metadata: {} })
      assert.deepEqual(plain(yield* stored(id)), { ...before, data: [1], metadata: {} })
    }))

  test("a repeat of a command is one also when its data was updated since, and all else tells it from another", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const [open, done] = [newCommand(), newCommand()]
      const success = Schema.Number
      yield* store.create(open)
      yield* store.execute(done, Effect.succeed(1), { success })
      const never = Effect.die("must not run")
      for (const { id, ...given } of [open, done]) {
        yield* store.update(id, { metadata: { by: "operator" } })
        yield* failsWith(store.create({ ...given, id, data: "other" }), "DuplicateCommand")
        yield* store.update(id, { data: "redacted" })
        yield* store.update(id, { metadata: {} })
        assert.equal((yield* store.create({ ...given, id })).data, "redacted")
        for (const change of [{ type: "Other" }, { domain: "other" }, { tenantId: freshTenant() }]) {
          yield* failsWith(store.create({ ...given, id, ...change }), "DuplicateCommand")
          yield* failsWith(store.execute({ ...given, id, ...change }, never, { success }), "DuplicateCommand")
        }
      }
      assert.equal(yield* store.execute(done, never, { success }), 1)
      assert.equal(yield* store.execute(open, Effect.succeed(2), { success }), 2)
      assert.deepEqual([(yield* stored(open.id)).data, (yield* stored(open.id)).attempts], ["redacted", 1])
    }))

  for (const status of ["succeeded", "failed"] as const) {
    test(`an update to ${status} comes with its outcome and the time, and without one has none`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const { id } = yield* store.create(newCommand())
        const created = plain(yield* stored(id))
        const fromMs = yield* Clock.currentTimeMillis
        yield* store.update(id, { status, outcome: { by: "operator" } })
        const { finishedAt, ...done } = plain(yield* stored(id))
        assert.ok(finishedAt !== undefined && finishedAt >= fromMs && finishedAt <= (yield* Clock.currentTimeMillis))
        const outcome = Option.some({ by: "operator" })
        assert.deepEqual({ ...done, finishedAt: undefined }, { ...created, status, outcome })
        yield* store.update(id, { status })
        assert.deepEqual((yield* stored(id)).outcome, Option.none())
        yield* store.update(id, { status, outcome: null })
        assert.deepEqual((yield* stored(id)).outcome, Option.some(null))
      }))
  }

  test("an update to received opens a command again: it has no outcome, and the next who asks executes it", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const execute = (n: number) => store.execute(given, Effect.succeed(n), { success: Schema.Number })
      assert.equal(yield* execute(1), 1)
      assert.equal(yield* execute(2), 1)
      yield* store.update(given.id, { status: "received" })
      const open = yield* stored(given.id)
      assert.deepEqual([open.status, open.outcome, open.finishedAt], ["received", Option.none(), undefined])
      assert.equal(yield* execute(3), 3)
      assert.equal((yield* stored(given.id)).attempts, 2)
    }))

  const refused: ReadonlyArray<readonly [what: string, Changes]> = [
    ["changes", {}],
    ["changes", { data: undefined }],
    ["changes.outcome", { outcome: 1 }],
    ["changes.outcome", { outcome: 1, data: 2 }],
    ["changes.outcome", { outcome: 1, status: "received" }],
    ["changes.outcome", { outcome: Number.NaN, status: "failed" }],
    ["changes.status", { status: "done" as "failed" }],
    ["changes.data.at", { data: { at: new Date(0) } }],
    ["changes.metadata", { metadata: [] as never }],
    ["a key of changes", { state: "failed" } as Changes]
  ]
  for (const [what, changes] of refused) {
    const given = Object.keys(changes).join(" and ")
    test(`an update of ${given || "nothing"} is refused by ${what} when it makes no sense, and changes nothing`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const { id } = yield* store.create(newCommand())
        const before = plain(yield* stored(id))
        assert.equal((yield* failsWith(store.update(id, changes), "InvalidInput")).what, what)
        assert.deepEqual(plain(yield* stored(id)), before)
      }))
  }

  test("an update of a command that is not stored is NotFound", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const id = randomUUID()
      assert.ok((yield* failsWith(store.update(id, { data: 1 }), "NotFound")).what.includes(id))
      assert.ok(Option.isNone(yield* store.get(id)))
    }))

  test("a delete says whether there was a command, and the next who asks executes it as a new one", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const neighbour = yield* store.create(newCommand({ tenantId: given.tenantId }))
      assert.equal(yield* store.delete(given.id), false)
      assert.equal(yield* store.execute(given, Effect.succeed(1), { success: Schema.Number }), 1)
      assert.equal(yield* store.delete(given.id), true)
      assert.equal(yield* store.delete(given.id), false)
      assert.ok(Option.isNone(yield* store.get(given.id)))
      const other: NewCommand = { ...given, data: "other" }
      assert.equal(yield* store.execute(other, Effect.succeed(2), { success: Schema.Number }), 2)
      assert.equal((yield* stored(given.id)).attempts, 1)
      const left = yield* collect(store.list({ filter: { tenantId: given.tenantId } }))
      assert.deepEqual(ids(left), [neighbour.id, given.id])
    }))

  const at = (ms: number) => DateTime.unsafeMake(ms)

  test("a prune deletes what was created before a moment and is done, and nothing else", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      const kept: Array<string> = []
      for (const status of ["received", "succeeded", "failed"] as const) {
        for (const createdAt of [1_000, 1_999, 2_000, 2_001]) {
          const { id } = yield* store.create(newCommand({ tenantId, createdAt: at(createdAt) }))
          if (status !== "received") yield* store.update(id, { status })
          if (status === "received" || createdAt >= 2_000) kept.push(id)
        }
      }
      const other = yield* store.create(newCommand({ createdAt: at(1) }))
      yield* store.update(other.id, { status: "succeeded" })
      assert.equal(yield* store.prune({ tenantId, createdUntil: at(2_000) }), 4)
      assert.equal(yield* store.prune({ tenantId, createdUntil: at(2_000) }), 0)
      assert.deepEqual(ids(yield* collect(store.list({ filter: { tenantId } }))), kept)
      yield* stored(other.id)
    }))

  const prunes: ReadonlyArray<
    readonly [name: string, Omit<PruneOptions, "createdUntil">, left: ReadonlyArray<number>]
  > = [
    ["statuses", { statuses: ["received"] }, [1, 2, 4, 5]],
    ["all statuses", { statuses: ["received", "succeeded", "failed"] }, []],
    ["domain", { domain: "invoice" }, [0, 1, 2, 3]],
    ["types", { types: ["Pay"] }, [0, 2, 3, 5]],
    ["createdFrom", { createdFrom: at(2) }, [0, 1, 3]]
  ]
  for (const [name, options, left] of prunes) {
    test(`a prune is narrowed by ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const tenantId = freshTenant()
        const created = yield* Effect.forEach(range(0, 5), (i) =>
          Effect.gen(function* () {
            const { id } = yield* store.create(
              newCommand({
                tenantId,
                createdAt: at(i),
                domain: i < 4 ? "order" : "invoice",
                type: ["Place", "Pay", "Ship"][i % 3] as string
              })
            )
            const status = (["received", "succeeded", "failed"] as const)[i % 3]
            if (status !== "received") yield* store.update(id, { status })
            return id
          })
        )
        assert.equal(yield* store.prune({ tenantId, createdUntil: at(1_000), ...options }), 6 - left.length)
        const kept = yield* collect(store.list({ filter: { tenantId } }))
        assert.deepEqual(
          ids(kept),
          left.map((i) => created[i])
        )
      }))
  }

  test("a prune goes on beyond a batch, and answers with the sum", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      yield* Effect.forEach(range(1, 2_001), () => store.create(newCommand({ tenantId, createdAt: at(1) })), {
        concurrency: 8,
        discard: true
      })
      const statuses = ["received"] as const
      assert.equal(yield* store.prune({ tenantId, statuses, createdUntil: at(2) }), 2_001)
      assert.equal(yield* store.count({ tenantId }), 0)
    }))

  test("a prune without a moment, or with a misspelt condition, is refused and deletes nothing", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const { id } = yield* store.create(newCommand({ createdAt: at(1) }))
      yield* store.update(id, { status: "succeeded" })
      for (const options of [{}, { createdUntil: undefined }, { createdUntil: at(2), tenant: "t" }, undefined]) {
        yield* failsWith(store.prune(options as PruneOptions), "InvalidInput")
      }
      yield* stored(id)
    }))

  test("info counts commands, knows the last one, names the backend and shows no secret", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const before = yield* store.info
      yield* store.create(newCommand())
      const last = yield* store.create(newCommand())
      const info = yield* store.info
      assert.equal(info.commands, before.commands + 2)
      assertSameCommands(Option.toArray(info.lastCommand), [last])
      assert.ok(info.backend !== "" && info.connection !== "")
      assert.equal(info.readOnly, false)
      for (const secret of secrets) assert.ok(!JSON.stringify(info).includes(secret), "info shows a secret")
    }))
}

/** Apart, since it empties the store. */
export const reset = (test: Test): void =>
  test("a reset leaves no command, and the store goes on", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      assert.equal(yield* store.execute(given, Effect.succeed(1), { success: Schema.Number }), 1)
      yield* store.reset
      const info = yield* store.info
      assert.deepEqual([info.commands, info.lastCommand, yield* store.count()], [0, Option.none(), 0])
      assert.deepEqual(yield* collect(store.list()), [])
      assert.ok(Option.isNone(yield* store.get(given.id)))
      assert.equal(yield* store.execute(given, Effect.succeed(2), { success: Schema.Number }), 2)
      yield* store.reset
      yield* store.reset
      assert.equal(yield* store.count(), 0)
    }))

export const readOnly = (test: Test, layer: Layer.Layer<CommandStore, unknown>): void =>
  test("a read-only store refuses every write by name, executes nothing, and reads", () =>
    Effect.gen(function* () {
      const writer = yield* CommandStore
      const given = newCommand()
      const success = Schema.Number
      yield* writer.execute(given, Effect.succeed(1), { success })
      const before = yield* stored(given.id)
      yield* Effect.gen(function* () {
        const store = yield* CommandStore
        let runs = 0
        const run = Effect.sync(() => ++runs)
        const refused = yield* Effect.all([
          failsWith(store.create(newCommand()), "ReadOnly"),
          failsWith(store.create(given), "ReadOnly"),
          failsWith(store.create(newCommand({ id: "none" })), "ReadOnly"),
          failsWith(store.execute(newCommand(), run, { success }), "ReadOnly"),
          failsWith(store.execute(given, run, { success }), "ReadOnly"),
          failsWith(store.update(given.id, { data: 1 }), "ReadOnly"),
          failsWith(store.delete(given.id), "ReadOnly"),
          failsWith(store.delete(randomUUID()), "ReadOnly"),
          failsWith(store.prune({ createdUntil: DateTime.unsafeMake(0) }), "ReadOnly"),
          failsWith(store.reset, "ReadOnly")
        ])
        assert.deepEqual(
          refused.map(({ operation }) => operation),
          ["create", "create", "create", "execute", "execute", "update", "delete", "delete", "prune", "reset"]
        )
        assert.equal(runs, 0)
        assertSameCommands([yield* stored(given.id)], [before])
        const filter = { tenantId: given.tenantId }
        assertSameCommands(yield* collect(store.list({ filter })), [before])
        assertSameCommands((yield* store.page({ filter })).commands, [before])
        assert.deepEqual(yield* collect(store.distinct("status", filter)), ["succeeded"])
        assert.equal(yield* store.count(filter), 1)
        assert.equal((yield* store.info).readOnly, true)
      }).pipe(Effect.provide(layer))
      assertSameCommands([yield* stored(given.id)], [before])
    }))
