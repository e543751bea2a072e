/**
 * Contract of `create` and `get`: what is stored, what a repeat gets, and what is refused.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { NewCommand } from "../../CommandStore.js"
import { CommandStore } from "../../CommandStore.js"
import { jsonByName, nested, notJson, withUndefined } from "../jsonValues.js"
import { collect, failsWith, isIncreasing } from "../suite.js"
import type { Test } from "./fixtures.js"
import { freshTenant, newCommand, plain, stored } from "./fixtures.js"

export const create = (test: Test): void => {
  test("a command is stored as received, and answered and read as it was given", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand({
        metadata: { trace: "t" },
        instanceId: "instance",
        createdAt: DateTime.unsafeMake(1_700_000_000_123),
        dueAt: DateTime.unsafeMake(1_800_000_000_123)
      })
      const created = yield* store.create(given)
      assert.deepEqual(plain(created), {
        ...given,
        createdAt: 1_700_000_000_123,
        dueAt: 1_800_000_000_123,
        position: created.position,
        status: "received",
        outcome: Option.none(),
        attempts: 0,
        finishedAt: undefined
      })
      assert.deepEqual(plain(yield* stored(given.id)), plain(created))
    }))

  test("what is left out is filled in: no metadata, the time of the clock", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const before = yield* Clock.currentTimeMillis
      const { createdAt, metadata } = yield* store.create(newCommand())
      assert.deepEqual(metadata, {})
      assert.ok(createdAt.epochMillis >= before && createdAt.epochMillis <= (yield* Clock.currentTimeMillis))
    }))

  test("positions increase in the order of creation", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const created = yield* Effect.replicateEffect(
        Effect.suspend(() => store.create(newCommand())),
        5
      )
      assert.ok(isIncreasing(created.map(({ position }) => position)))
    }))

  test("a command that is not stored is none", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      yield* store.create(newCommand())
      assert.ok(Option.isNone(yield* store.get(randomUUID())))
    }))

  test("a repeat answers with what is stored and changes nothing, also with another time and instance", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand({ data: { b: [1, null], a: "x" }, metadata: { trace: "t" }, instanceId: "one" })
      const created = yield* store.create(given)
      const later = DateTime.unsafeMake(1)
      const again = yield* store.create({ ...given, instanceId: "two", createdAt: later })
      assert.deepEqual(plain(again), plain(created))
      assert.deepEqual(plain(yield* stored(given.id)), plain(created))
      assert.equal(yield* store.count({ tenantId: given.tenantId }), 1)
    }))

  test("a repeat answers with what has become of the command", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      yield* store.create(given)
      yield* store.update(given.id, { status: "failed", outcome: { why: "no" } })
      const again = yield* store.create(given)
      assert.equal(again.status, "failed")
      assert.deepEqual(again.outcome, Option.some({ why: "no" }))
      assert.ok(again.finishedAt !== undefined)
    }))

  test("of many that create one command at once all are told the same, and it is stored once", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand()
      const answers = yield* Effect.all(
        Array.from({ length: 50 }, () => store.create(given)),
        { concurrency: "unbounded" }
      )
      assert.equal(new Set(answers.map(({ position }) => position)).size, 1)
      assert.equal(yield* store.count({ tenantId: given.tenantId }), 1)
    }))

  test("a repeat has its data as values, in any order of keys, and may have other metadata", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = newCommand({ data: { a: 1, b: { c: [1, 2], d: null } }, metadata: { trace: "1" } })
      const created = yield* store.create(given)
      const retries = [
        { ...given, data: { b: { d: null, c: [1, 2] }, a: 1 } },
        { ...given, metadata: { trace: "2" } },
        { ...given, metadata: {} }
      ]
      for (const retry of retries) assert.deepEqual(plain(yield* store.create(retry)), plain(created))
      let runs = 0
      const run = Effect.sync(() => ++runs)
      for (const retry of retries) assert.equal(yield* store.execute(retry, run, { success: Schema.Number }), 1)
      assert.equal(runs, 1)
      assert.deepEqual((yield* stored(given.id)).metadata, given.metadata)
      const swapped = { ...given, data: { a: 1, b: { c: [2, 1], d: null } } }
      assert.equal((yield* failsWith(store.create(swapped), "DuplicateCommand")).why, "with other data")
    }))

  for (const [field, change] of clashes) {
    test(`the same id with another ${field} is refused as a duplicate and changes nothing`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const given = newCommand({ data: { a: 1, b: 2 }, metadata: { trace: "t" } })
        const created = yield* store.create(given)
        const error = yield* failsWith(store.create({ ...given, ...change }), "DuplicateCommand")
        assert.equal(error.id, given.id)
        assert.ok(error.why.includes(field), error.why)
        assert.deepEqual(plain(yield* stored(given.id)), plain(created))
      }))
  }
}

/** Each field that tells one command from another, and the subtlest change of it. */
export const clashes: ReadonlyArray<readonly [field: string, change: Partial<NewCommand>]> = [
  ["tenantId", { tenantId: "another" }],
  ["domain", { domain: "Order" }],
  ["type", { type: "place" }],
  ["data", { data: { a: 1, b: 3 } }],
  ["data", { data: null }]
]

export const payloads = (test: Test): void => {
  for (const [name, value] of Object.entries(jsonByName)) {
    test(`data, metadata and outcome come back exactly: ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        // Metadata is an object around it, so its limit of depth is met one level higher.
        const metadata = name === "512 levels" ? { in: nested(511) } : { value }
        const { id } = yield* store.create(newCommand({ data: value, metadata }))
        const assertStored = Effect.map(stored(id), (command) => {
          assert.deepEqual(command.data, value)
          assert.equal(JSON.stringify(command.data), JSON.stringify(value))
          assert.deepEqual(command.metadata, metadata)
          return command
        })
        yield* assertStored
        yield* store.update(id, { data: value, metadata, status: "succeeded", outcome: value })
        assert.deepEqual((yield* assertStored).outcome, Option.some(value))
      }))
  }

  test("payloads of 1 MiB come back exactly", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      for (const text of ["x".repeat(2 ** 20), "\0".repeat(2 ** 18), "\u{1f600}".repeat(2 ** 18)]) {
        const { id } = yield* store.create(newCommand({ data: text }))
        assert.ok((yield* stored(id)).data === text)
      }
    }))

  for (const [name, data, place] of notJson) {
    test(`data that JSON would change is refused by its place: ${name}`, () =>
      Effect.gen(function* () {
        const store = yield* CommandStore
        const given = newCommand({ data })
        const error = yield* failsWith(store.create(given), "InvalidInput")
        assert.ok(error.what.startsWith(`command.data${place}`), error.what)
        assert.ok(Option.isNone(yield* store.get(given.id)))
      }))
  }

  test("properties that are undefined are left out, as everywhere in JSON", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const { given, kept } = withUndefined
      const created = yield* store.create(newCommand({ data: given, metadata: given }))
      assert.deepEqual([created.data, created.metadata], [kept, kept])
    }))

  test("metadata must be an object", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      for (const metadata of [null, 1, "text", [], true]) {
        const error = yield* failsWith(store.create(Object.assign(newCommand(), { metadata })), "InvalidInput")
        assert.equal(error.what, "command.metadata")
      }
    }))

  test("an id is a UUID in lower case", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const id = randomUUID()
      for (const bad of ["", "1", id.toUpperCase(), `${id} `, `{${id}}`, id.replaceAll("-", ""), `${id}\n`]) {
        if (bad === id) continue
        assert.equal((yield* failsWith(store.create(newCommand({ id: bad })), "InvalidInput")).what, "command.id")
        assert.equal((yield* failsWith(store.get(bad), "InvalidInput")).what, "id")
      }
    }))

  test("identifiers of 255 bytes are kept exactly, longer ones are refused", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      for (const name of ["x".repeat(255), "\u00e9".repeat(127), "\u{1f600}".repeat(63), "\ufffd", "\u2028"]) {
        const { id } = yield* store.create(newCommand({ domain: name, type: name, instanceId: name }))
        const { domain, instanceId, type } = yield* stored(id)
        assert.deepEqual([domain, type, instanceId], [name, name, name])
      }
      for (const name of ["", "x".repeat(256), "\u00e9".repeat(128), "a\0b", "\ud800"]) {
        for (const field of ["tenantId", "domain", "type", "instanceId"]) {
          const error = yield* failsWith(store.create(newCommand({ [field]: name })), "InvalidInput")
          assert.equal(error.what, `command.${field}`)
        }
      }
    }))

  test("a misspelt field is refused, and not left out silently", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const given = Object.assign(newCommand(), { metaData: { trace: "t" } })
      yield* failsWith(store.create(given), "InvalidInput")
      assert.ok(Option.isNone(yield* store.get(given.id)))
    }))

  test("times from year 0 to 9999 come back to the millisecond, others are refused", () =>
    Effect.gen(function* () {
      const store = yield* CommandStore
      const tenantId = freshTenant()
      const first = Date.parse("0000-01-01T00:00:00.000Z")
      const last = Date.parse("9999-12-31T23:59:59.999Z")
      const times = [first, -1, 0, 1, 2 ** 31 * 1000, last]
      for (const time of times) yield* store.create(newCommand({ tenantId, createdAt: DateTime.unsafeMake(time) }))
      const commands = yield* collect(store.list({ filter: { tenantId } }))
      assert.deepEqual(
        commands.map(({ createdAt }) => createdAt.epochMillis),
        times
      )
      for (const time of [first - 1, last + 1]) {
        const given = newCommand({ createdAt: DateTime.unsafeMake(time) })
        assert.equal((yield* failsWith(store.create(given), "InvalidInput")).what, "command.createdAt")
      }
    }))
}
