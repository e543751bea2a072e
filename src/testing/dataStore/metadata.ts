/**
 * Contract of content types and of the user's metadata, which is data and never a header of a protocol.
 */
import assert from "node:assert/strict"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { PutOptions } from "../../DataStore.js"
import { DataStore } from "../../DataStore.js"
import { failsWith } from "../suite.js"
import type { Test } from "./fixtures.js"
import { assertAbsent, assertStored, bytesOf, freshBucket, freshObject, inPieces, text } from "./fixtures.js"

const records: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "other languages": { author: "Léo 公司", größe: "42 €", "😀": "\u{10ffff}\u2028\ufeff" },
  "spaces and empty values": { " a ": " b ", "": "empty key", empty: "", tab: "\t", lines: "a\r\nb\n" },
  capitals: { Author: "A", author: "a", AUTHOR: "X", "x-amz-meta-author": "y" },
  "headers of protocols": {
    "x-amz-acl": "public-read",
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-copy-source": "/other/object",
    "if-match": '"x"',
    "If-None-Match": "*",
    "cache-control": "no-store",
    "Content-Type": "text/html",
    "content-length": "1",
    host: "example.com",
    authorization: "none",
    injected: "a\r\nx-amz-acl: public-read"
  },
  "names of JavaScript": JSON.parse('{"__proto__":"p","constructor":"c","toString":"t","hasOwnProperty":"h"}'),
  "numbers as text": { a: "007", b: "1e3", c: "0x10", d: "true", e: "null", "1": "one", "0": "zero" },
  markup: { a: "<&>\"'", b: "%20+%2F", c: "\\u0041\\", d: "=?UTF-8?Q?=41?=" }
}

export const metadata = (test: Test): void => {
  for (const [what, record] of Object.entries(records)) {
    test(`metadata comes back exactly: ${what}`, () =>
      Effect.gen(function* () {
        const store = yield* DataStore
        const object = yield* freshObject
        const contentType = "text/plain; charset=utf-8"
        const info = yield* store.put(object, text("x"), { metadata: record, contentType })
        assert.deepEqual({ ...info.metadata }, { ...record })
        yield* assertStored(object, text("x"), { metadata: record, contentType })
        assert.deepEqual(Object.keys(Option.getOrThrow(yield* store.head(object)).metadata), Object.keys(record))
      }))
  }

  test("2,048 bytes of metadata come back exactly, of small and of large objects, and one byte more is refused", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const bucket = yield* freshBucket
      const most: ReadonlyArray<Record<string, string>> = [
        { k: "v".repeat(2_047) },
        { ["k".repeat(2_048)]: "" },
        { k: "\u{1f600}".repeat(511), " ": "xx" },
        { k: "\u0001".repeat(2_047) },
        Object.fromEntries(Array.from({ length: 256 }, (_, i) => [`key-${`${i}`.padStart(3, "0")}`, "v"]))
      ]
      for (const [i, record] of most.entries()) {
        for (const size of [3, 700_000]) {
          const object = { bucket, name: `${i}/${size}` }
          yield* store.put(object, inPieces(bytesOf(size), 100_000), { metadata: record })
          yield* assertStored(object, bytesOf(size), { metadata: record })
        }
        const [[key, value]] = Object.entries(record) as [[string, string]]
        const object = { bucket, name: "refused" }
        const error = yield* failsWith(
          store.put(object, text("x"), { metadata: { ...record, [key]: `${value}xx` } }),
          "InvalidInput"
        )
        assert.ok(error.what.startsWith("options.metadata"), error.what)
        yield* assertAbsent(object)
      }
    }))

  test("metadata that is no record of text is refused, and names the place", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      for (const wrong of [
        null,
        [],
        "a",
        1,
        new Map([["a", "b"]]),
        { a: 1 },
        { a: null },
        { a: "\0" },
        { a: "\ud800" }
      ]) {
        const options = { metadata: wrong } as unknown as PutOptions
        const error = yield* failsWith(store.put(object, text("x"), options), "InvalidInput")
        assert.ok(error.what.startsWith("options.metadata"), error.what)
      }
      yield* assertAbsent(object)
    }))

  test("content types come back exactly, and what is no header's value is refused", () =>
    Effect.gen(function* () {
      const store = yield* DataStore
      const object = yield* freshObject
      for (const contentType of [
        "text/html",
        'multipart/mixed; boundary="a b"',
        "x",
        `a/${"b".repeat(253)}`,
        "a/b+c; d=~"
      ]) {
        yield* store.put(object, text("x"), { contentType })
        yield* assertStored(object, text("x"), { contentType })
      }
      for (const wrong of ["", " a/b", "a/b ", "a/b\r\nx: y", "a/é", "a\0b", `a/${"b".repeat(254)}`]) {
        const error = yield* failsWith(store.put(object, text("y"), { contentType: wrong }), "InvalidInput")
        assert.equal(error.what, "options.contentType")
      }
      yield* assertStored(object, text("x"))
    }))
}
