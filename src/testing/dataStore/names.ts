/**
 * Names as data: those that object stores, file systems, XML and URLs were seen to mistake, and random ones.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import { DataStore } from "../../DataStore.js"
import { text as anyText } from "../hostile.js"
import type { PropertyOptions } from "../suite.js"
import { byBytes, failsWith, isEnough } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertAbsent, assertStored, freshBucket, freshObject, listed, read, sameBytes, text } from "./fixtures.js"

const odd: ReadonlyArray<string> = [
  ...["007", "1e3", "0x10", "1.0", "true", "null", "undefined", "NaN", "-0", " 5", "12345678901234567890", "0"],
  ...[
    " ",
    "  ",
    "lead ",
    " trail",
    "a b",
    "a+b",
    "a%20b",
    "a%2Fb",
    "a%2fb",
    "%",
    "%%",
    "%zz",
    "a#b",
    "a?b=c&d",
    "a;b,c"
  ],
  ...[
    "a&b<c>\"'",
    "]]>",
    "&amp;",
    "&#65;",
    "<Key>x</Key>",
    "$1",
    "`x`",
    "!*'()",
    "~tilde",
    "@:[]{}|^",
    "a=b",
    "\\back"
  ],
  ...[".", "..", "...", "./y", "../x", "a/../b", "a/./b", "/", "//", "/abs", "a//b", "dir/", "a/", "a", "a/b", "a/b/c"],
  ...[
    "../../../../etc/passwd",
    "C:\\x",
    "con",
    "nul.txt",
    "a.",
    "a ",
    ".hidden",
    ".tmp",
    "-rf",
    "--",
    "~",
    "tmp",
    "lost+found"
  ],
  ...["A", "aA", "Aa", "AA", "aa", "İ", "ı", "ß", "SS", "ss", "ſ", "K", "k", "K"],
  ...[
    "é",
    "e\u0301",
    "Å",
    "Å",
    "A\u030a",
    "ﬁ",
    "fi",
    "漢字/ファイル",
    "😀/😀.txt",
    "\u{10ffff}",
    "\ufffd",
    "\ufeff",
    "\u202e",
    "ÿ"
  ],
  ...[
    "tab\tname",
    "nl\nx",
    "cr\rx",
    "crlf\r\nx",
    "ctl\u0001x",
    "\u007f",
    "\u0085",
    "\u2028",
    "\ufffe",
    "\uffff",
    "esc\u001b[31m"
  ],
  ...[
    "__proto__",
    "constructor",
    "toString",
    "*",
    "?",
    "[a]",
    "a*b",
    "x.",
    "x%",
    "x%00",
    "x\\u0000",
    "%2e%2e/x",
    "%252F"
  ],
  ...["x".repeat(255), "x".repeat(256), "X".repeat(255), "x".repeat(1_024), "é".repeat(512), "\u{1f600}".repeat(256)],
  ...[`${"d/".repeat(511)}xx`, `${"x".repeat(300)}/${"y".repeat(300)}`, `a${"/".repeat(1_000)}`, "漢".repeat(341)],
  // Of one length, and different only at the end: hashes and cuts must not make them one.
  ...["1", "2", "3"].map((end) => `${"long name ".repeat(100)}${end}`)
]

const refused: ReadonlyArray<string> = [
  "",
  "\0",
  "a\0b",
  "\ud800",
  "a\udc00b",
  "x".repeat(1_025),
  "é".repeat(513),
  ".effect-stores/x",
  ".effect-stores/"
]

/** Puts all, and looks at each by every operation that takes or gives a name. */
const roundTrip = (names: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const store = yield* DataStore
    const bucket = yield* freshBucket
    const each = <A, E, R>(use: (name: string) => Effect.Effect<A, E, R>) =>
      Effect.forEach(names, use, { concurrency: 16, discard: true })
    yield* each((name) => store.put({ bucket, name }, text(`body of ${name}`), { metadata: { name } }))
    assert.deepEqual(yield* listed(bucket), names.toSorted(byBytes))
    yield* each((name) =>
      Effect.gen(function* () {
        const found = Option.getOrThrow(yield* store.get({ bucket, name }))
        assert.deepEqual([found.info.name, found.info.metadata.name], [name, name])
        sameBytes(yield* read(found), text(`body of ${name}`))
      })
    )
    for (const name of names.slice(0, 50)) {
      const under = yield* listed(bucket, { prefix: name })
      assert.deepEqual(under, names.filter((each) => each.startsWith(name)).sort(byBytes))
    }
    const to = yield* freshBucket
    yield* each((name) => store.copy({ bucket, name }, { bucket: to, name }))
    assert.deepEqual(yield* listed(to), names.toSorted(byBytes))
    const half = names.filter((_, i) => i % 2 === 0)
    assert.equal(yield* store.deleteMany(bucket, half), half.length)
    assert.deepEqual(yield* listed(bucket), names.filter((_, i) => i % 2 === 1).sort(byBytes))
    yield* Effect.forEach(half, (name) => assertAbsent({ bucket, name }), { concurrency: 16, discard: true })
    yield* Effect.forEach(
      half.slice(0, 20),
      (name) => assertStored({ bucket: to, name }, text(`body of ${name}`), { metadata: { name } }),
      { concurrency: 16, discard: true }
    )
  })

const name = FastCheck.array(
  FastCheck.oneof(
    { weight: 8, arbitrary: anyText },
    { weight: 2, arbitrary: FastCheck.constantFrom(...odd.filter(({ length }) => length < 20)) },
    { weight: 1, arbitrary: FastCheck.constantFrom("/", "//", "../", "./", "%2f", "x".repeat(200), "\u{1f600}") }
  ),
  { minLength: 1, maxLength: 4 }
).map((parts) => parts.join(""))

export const names = (test: Test, { runs, seed }: PropertyOptions): void => {
  test(`${new Set(odd).size} names that were seen to be mistaken come back exactly from every operation`, () =>
    roundTrip([...new Set(odd)]))

  test("names that cannot be kept are refused by every operation, and nothing is stored", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const there = yield* freshObject
      yield* store.put(there, text("x"))
      for (const wrong of refused) {
        const object = { ...there, name: wrong }
        const errors = yield* Effect.all([
          failsWith(store.put(object, text("x")), "InvalidInput"),
          failsWith(store.get(object), "InvalidInput"),
          failsWith(store.head(object), "InvalidInput"),
          failsWith(store.getRange(object, { offset: 0 }), "InvalidInput"),
          failsWith(store.copy(there, object), "InvalidInput"),
          failsWith(store.copy(object, there), "InvalidInput"),
          failsWith(store.move(object, there), "InvalidInput"),
          failsWith(store.delete(object), "InvalidInput"),
          failsWith(store.deleteMany(there.bucket, [wrong]), "InvalidInput"),
          failsWith(store.presign.get(object), "InvalidInput"),
          failsWith(store.presign.put(object), "InvalidInput")
        ])
        for (const { what } of errors) assert.match(what, /name/)
      }
      assert.deepEqual(yield* listed(there.bucket), [there.name])
    }))

  test(`${runs} random names come back exactly, or are refused`, () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const sample = FastCheck.sample(name, { numRuns: runs, ...(seed === undefined ? {} : { seed }) })
      const [wrong, right] = [new Set<string>(), new Set<string>()]
      for (const each of sample) {
        const isRefused = each === "" || each.includes("\0") || !each.isWellFormed() || Buffer.byteLength(each) > 1_024
        ;(isRefused ? wrong : right).add(each)
      }
      const bucket = yield* freshBucket
      yield* Effect.forEach(wrong, (each) => failsWith(store.put({ bucket, name: each }, text("x")), "InvalidInput"))
      assert.deepEqual(yield* listed(bucket), [])
      const names = { of: runs, usual: 10_000 }
      assert.ok(isEnough(right.size, { ...names, share: 1 / 4 }), `${right.size} of ${runs} right`)
      assert.ok(isEnough(wrong.size, { ...names, share: 1 / 100 }), `${wrong.size} of ${runs} wrong`)
      yield* roundTrip([...right])
    }))
}
