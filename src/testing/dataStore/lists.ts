/**
 * Contract of `list` and `count`: order, prefixes, delimiters, and pages under deletion.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { DataStore } from "../../DataStore.js"
import { byBytes, collect, range } from "../suite.js"
import type { Test } from "./fixtures.js"
import { bytesOf, freshBucket, listed, text, textOf } from "./fixtures.js"

const filled = (names: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const store = yield* DataStore
    const bucket = yield* freshBucket
    yield* Effect.forEach(names, (name) => store.put({ bucket, name }, text(name)), { concurrency: 16, discard: true })
    return bucket
  })

export const lists = (test: Test, many: number): void => {
  test("a list is in order of UTF-8 bytes, and not of UTF-16, of languages or of paths", () =>
    Effect.gen(function* () {
      const names = [
        ..."aBbA10_-.~ ",
        "a/b",
        "a-b",
        "a0",
        "ä",
        "a\u0308",
        "\uffff",
        "\uff5e",
        "\u{10000}",
        "\u{1f600}",
        "\ud7ff",
        "\ue000",
        "a\u{1f600}",
        "a\uff5e"
      ]
      const bucket = yield* filled(names)
      assert.deepEqual(yield* listed(bucket), names.toSorted(byBytes))
      const store = yield* DataStore
      assert.equal(yield* store.count(bucket), names.length)
    }))

  test("an entry has the size, the etag and the time of its object", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const bucket = yield* freshBucket
      for (const size of [0, 5, 700_000]) yield* store.put({ bucket, name: `${size}` }, bytesOf(size))
      for (const entry of yield* collect(store.list(bucket))) {
        assert.ok(entry._tag === "Object")
        const head = Option.getOrThrow(yield* store.head({ bucket, name: entry.name }))
        assert.deepEqual([entry.size, entry.etag], [head.size, head.etag])
        assert.ok(Math.abs(entry.modifiedAt.epochMillis - head.modifiedAt.epochMillis) < 1_000)
      }
    }))

  test("a prefix is text and no pattern", () =>
    Effect.gen(function* () {
      const names = [
        "a",
        "a/",
        "a/b",
        "a/b/c",
        "A/b",
        "a%2Fb",
        "a_b",
        "aXb",
        "a\\b",
        "é",
        "e\u0301",
        "\u{10ffff}x",
        "%",
        "_"
      ]
      const bucket = yield* filled(names)
      const store = yield* DataStore
      for (const prefix of [...names, "", "a/b/", "e", "%2", "nothing", "\u{10ffff}"]) {
        const expected = names.filter((name) => name.startsWith(prefix)).sort(byBytes)
        assert.deepEqual(yield* listed(bucket, { prefix }), expected, prefix)
        assert.equal(yield* store.count(bucket, { prefix }), expected.length)
      }
    }))

  test("with a delimiter what lies behind it is one entry, in its place, below any prefix", () =>
    Effect.gen(function* () {
      const bucket = yield* filled([
        "a",
        "a/1",
        "a/2",
        "a/3",
        "a-1",
        "a0",
        "b/1/2",
        "b/1/3",
        "b/2",
        "c//1",
        "/x",
        "é/1",
        "d/",
        "e+1"
      ])
      const cases = [
        [{ delimiter: "/" }, ["/", "a", "a-1", "a/", "a0", "b/", "c/", "d/", "e+1", "é/"]],
        [{ delimiter: "/", prefix: "a" }, ["a", "a-1", "a/", "a0"]],
        [{ delimiter: "/", prefix: "a/" }, ["a/1", "a/2", "a/3"]],
        [{ delimiter: "/", prefix: "b/" }, ["b/1/", "b/2"]],
        [{ delimiter: "/", prefix: "c/" }, ["c//"]],
        [{ delimiter: "/", prefix: "d/" }, ["d/"]],
        [{ delimiter: "/", prefix: "nothing" }, []],
        [
          { delimiter: "-" },
          ["/x", "a", "a-", "a/1", "a/2", "a/3", "a0", "b/1/2", "b/1/3", "b/2", "c//1", "d/", "e+1", "é/1"]
        ],
        [{ delimiter: "/", limit: 4 }, ["/", "a", "a-1", "a/"]],
        // What is behind the delimiter fills a page, and the next one begins with what comes right after.
        [{ delimiter: "/", after: "a-1", limit: 2 }, ["a/", "a0"]],
        [{ delimiter: "/", after: "a/" }, ["a0", "b/", "c/", "d/", "e+1", "é/"]],
        [{ delimiter: "/", after: "b/1" }, ["c/", "d/", "e+1", "é/"]]
      ] as const
      for (const [options, expected] of cases) {
        assert.deepEqual(yield* listed(bucket, options), expected, JSON.stringify(options))
      }
    }))

  test("more objects than a page of any backend has are listed once each, from anywhere, to any limit", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const names = range(1, many).map((i) => `${i % 3 === 0 ? "x/" : ""}n&<>"'${`${i}`.padStart(5, "0")}`)
      const bucket = yield* filled(names)
      const sorted = names.toSorted(byBytes)
      assert.deepEqual(yield* listed(bucket), sorted)
      assert.equal(yield* store.count(bucket), names.length)
      for (const at of [...new Set([0, 99, 100, 999, 1_000, many - 1])].filter((at) => at < many)) {
        assert.deepEqual(yield* listed(bucket, { after: sorted[at] }), sorted.slice(at + 1))
        assert.deepEqual(yield* listed(bucket, { limit: at + 1 }), sorted.slice(0, at + 1))
      }
      assert.deepEqual(yield* listed(bucket, { after: "x0" }), [])
      assert.deepEqual(
        yield* listed(bucket, { delimiter: "/" }),
        [...sorted.filter((name) => !name.includes("/")), "x/"].sort(byBytes)
      )
    }))

  test("a list is right while what it has given, and what it comes to, is deleted and put", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const names = range(0, many - 1).map((i) => `${`${i}`.padStart(5, "0")}`)
      const bucket = yield* filled(names)
      const seen: Array<string> = []
      yield* Stream.runForEach(store.list(bucket), (entry) =>
        Effect.suspend(() => {
          const name = textOf(entry)
          seen.push(name)
          const at = Number(name)
          if (at % 100 !== 0) return Effect.void
          // All that was given, and one far ahead.
          const given = seen.slice(-100).filter((each) => each !== name)
          return Effect.zipRight(
            store.deleteMany(bucket, given),
            store.put({ bucket, name: `${name}/behind` }, text("new"))
          )
        })
      )
      assert.deepEqual(
        seen.filter((name) => !name.includes("/")),
        names
      )
      assert.equal(new Set(seen).size, seen.length)
    }))

  test("a list of nothing is empty", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const bucket = yield* freshBucket
      assert.deepEqual(yield* listed(bucket), [])
      assert.deepEqual(yield* listed(bucket, { delimiter: "/", prefix: "x", after: "y" }), [])
      assert.equal(yield* store.count(bucket), 0)
    }))
}
