/**
 * Contract of addresses: a snapshot belongs to its tenant, domain and aggregate, whatever characters these have.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import type { StreamId } from "../../EventStore.js"
import { SnapshotStore } from "../../SnapshotStore.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertLatest, freshStream, freshTenant, newSnapshot, streamOf } from "./fixtures.js"

/** What backends put between or around the parts of a key, and what has a meaning in patterns, SQL or paths. */
const separators = [
  ":",
  "/",
  "{}",
  "{",
  "}",
  "*",
  "?",
  "[",
  "]",
  "[a]",
  "\\",
  "\\*",
  "^",
  "%",
  "_",
  "|",
  ",",
  ".",
  "..",
  "-",
  "#",
  "=",
  "&",
  "+",
  "'",
  '"',
  " ",
  "\n",
  "\r\n",
  "\t",
  "\u0001",
  "\u007f",
  "\ufeff",
  "\ud83d\ude00",
  ""
]

/** Three streams that are one as soon as their parts are joined with the separator. */
const alike = (prefix: string, separator: string): ReadonlyArray<StreamId> => [
  { tenantId: `${prefix}${separator}a`, domain: "b", aggregateId: "c" },
  { tenantId: prefix, domain: `a${separator}b`, aggregateId: "c" },
  { tenantId: prefix, domain: "a", aggregateId: `b${separator}c` }
]

/** Each saved with a version of its own; each is found, and each can be deleted alone. */
const apart = (streams: ReadonlyArray<StreamId>) =>
  Effect.gen(function* () {
    const store = yield* SnapshotStore
    const saved = streams.map((stream, i) => [stream, newSnapshot(streams.length - i)] as const)
    for (const [stream, snapshot] of saved) assert.equal(yield* store.save(stream, snapshot), true, printed(stream))
    for (const [stream, snapshot] of saved) yield* assertLatest(stream, snapshot)
    for (const [i, [stream]] of saved.entries()) {
      assert.equal(yield* store.delete(stream), true, printed(stream))
      yield* assertLatest(stream, undefined)
      for (const [other, snapshot] of saved.slice(i + 1)) yield* assertLatest(other, snapshot)
    }
  })

const printed = (stream: StreamId): string => JSON.stringify(stream)

export const streams = (test: Test): void => {
  test("tenants, domains and aggregates are apart", () =>
    Effect.gen(function* () {
      const [one, other] = [freshTenant(), freshTenant()]
      yield* apart([
        streamOf(one, "1", "order"),
        streamOf(one, "2", "order"),
        streamOf(one, "1", "invoice"),
        streamOf(other, "1", "order"),
        streamOf(one, "order", "1")
      ])
    }))

  for (const separator of separators) {
    test(`streams are apart though their parts are alike around ${JSON.stringify(separator)}`, () =>
      apart(alike(randomUUID(), separator)))
  }

  test("names that differ in case, in normalisation, or by a space at the end are different names", () =>
    Effect.gen(function* () {
      const prefix = randomUUID()
      const names = ["a", "A", "a ", " a", "\u00e4", "a\u0308", "\u00c4", "ss", "\u00df", "1", "01", "1.0", "1 "]
      yield* apart(
        names.map((name) => streamOf(freshTenant(), name)).concat(names.map((name) => streamOf(prefix, name)))
      )
      yield* apart(names.map((name) => ({ tenantId: `${prefix}${name}`, domain: "d", aggregateId: "1" })))
      yield* apart(names.map((name) => ({ tenantId: prefix, domain: name, aggregateId: "1" })))
    }))

  test("names that are another name as some backend would escape it are different names", () =>
    Effect.gen(function* () {
      const prefix = randomUUID()
      const groups = [
        ["a:b", "a%3Ab", "a%3ab", "a%253Ab", "a\\:b"],
        ["a%b", "a%25b", "a%%b", "a\\%b"],
        ["a b", "a+b", "a%20b", "a\\ b"],
        ["a'b", "a''b", "a\\'b", "a%27b"],
        ["a{b", "a{{b", "a%7Bb", "a\\{b"]
      ]
      for (const names of groups) {
        yield* apart(names.map((name) => ({ tenantId: `${prefix}${name}`, domain: "d", aggregateId: "1" })))
        yield* apart(names.map((name) => ({ tenantId: prefix, domain: name, aggregateId: "1" })))
        yield* apart(names.map((name) => ({ tenantId: prefix, domain: "d", aggregateId: name })))
      }
    }))

  test("a pattern of Redis or SQL in a name matches nothing but itself", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      const tenantId = freshTenant()
      const bystander = [streamOf(tenantId, "abc"), newSnapshot(1)] as const
      yield* store.save(...bystander)
      for (const name of ["*", "a*", "?bc", "[a]bc", "abc\\", "%", "a_c", "abc' OR '1'='1", "{abc}"]) {
        yield* assertLatest(streamOf(tenantId, name), undefined)
        assert.equal(yield* store.delete(streamOf(tenantId, name)), false)
      }
      yield* assertLatest(...bystander)
    }))

  test("names of 255 bytes are kept exactly", () =>
    Effect.gen(function* () {
      for (const name of ["x".repeat(255), "\u00e9".repeat(127), "\u{1f600}".repeat(63)]) {
        yield* apart([
          { tenantId: name, domain: name, aggregateId: name },
          { tenantId: name, domain: name, aggregateId: `${name.slice(2)}` }
        ])
      }
    }))

  test("names that no backend keeps are refused by their field: empty, with NUL, too long, not well-formed", () =>
    Effect.gen(function* () {
      const store = yield* SnapshotStore
      for (const name of ["", "a\0b", "\0", "x".repeat(256), "\u00e9".repeat(128), "\ud800", "a\udc00"]) {
        for (const field of ["tenantId", "domain", "aggregateId"] as const) {
          const stream = { ...freshStream(), [field]: name }
          const refused = yield* Effect.all([
            failsWith(store.save(stream, newSnapshot(1)), "InvalidInput"),
            failsWith(store.latest(stream), "InvalidInput"),
            failsWith(store.delete(stream), "InvalidInput")
          ])
          for (const { what } of refused) assert.equal(what, `stream.${field}`)
        }
      }
    }))
}
