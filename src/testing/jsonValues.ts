/**
 * JSON in the forms that storage tends to change, and values that JSON itself would change.
 */
import type { Json } from "../Json.js"

export const nested = (levels: number): Json => {
  let value: Json = "bottom"
  for (let i = 0; i < levels; i++) value = i % 2 === 0 ? [value] : { in: value }
  return value
}

/** Each comes back exactly from every store. */
export const jsonByName: Readonly<Record<string, Json>> = {
  "null, booleans and empty containers": [null, true, false, [], {}, "", [[]], [{}]],
  "NUL and control characters": { "\0": "a\0b", "\u0001\u001f\u007f": "\b\f\n\r\t\u000b" },
  "lone surrogates": { "\ud800": "\udc00\ud800", text: "\ude00\ud83d" },
  "line separators of JavaScript": "\u2028\u2029",
  "quotes, backslashes and SQL": `"'\\\`; DROP TABLE es_events; -- $1 ? :a @b %s`,
  "text beyond the basic plane": "\u{1f600}\u{10ffff}\uffff\ufffe\ufffd",
  "text that is not normalised": ["\u00e9", "e\u0301", "\u202e"],
  "keys that mean something to JavaScript": { constructor: 1, toString: 2, prototype: 3, hasOwnProperty: 4, length: 5 },
  "empty keys": { "": { "": [""] } },
  "keys in the order given": { b: 1, a: 2, "10": 3, "9": 4, A: 5 },
  "numbers at the edges": [
    0,
    1,
    -1,
    0.1,
    1e21,
    1e-7,
    5e-324,
    -5e-324,
    Number.MAX_VALUE,
    -Number.MAX_VALUE,
    Number.EPSILON,
    2 ** 53 - 1,
    2 ** 53,
    2 ** 53 + 2,
    -(2 ** 53) + 1,
    123456789012345680000
  ],
  "numbers and booleans as text": ["1", "true", "null", "-0", "NaN", "1e400"],
  "512 levels": nested(512)
}

/**
 * A value with properties that are `undefined`, and what every store keeps of it: as everywhere in JSON, all the rest.
 */
export const withUndefined = {
  given: { a: undefined, b: 1, c: { d: undefined }, e: [{ f: undefined, g: null }], h: undefined },
  kept: { b: 1, c: {}, e: [{ g: null }] }
}

/** What no store accepts: its name, the value, and the place in it that the refusal names. */
export const notJson: ReadonlyArray<readonly [name: string, value: unknown, place: string]> = [
  ["513 levels", nested(513), ""],
  ["undefined", undefined, ""],
  ["an undefined element", { list: [1, undefined] }, ".list[1]"],
  ["NaN", { list: [0, Number.NaN] }, ".list[1]"],
  ["-0", [-0], "[0]"],
  ["a bigint", { a: 1n }, ".a"],
  ["a Date", { at: new Date(0) }, ".at"],
  ["a Map", new Map(), ""],
  ["an own __proto__", JSON.parse('{"__proto__":{"polluted":true}}'), ""]
]
