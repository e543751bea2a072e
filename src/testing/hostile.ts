/**
 * Values that callers should never pass, and JSON in all its forms. Each is generated as a recipe with a name, so that
 * a report can print it: many of the values cannot be looked at without throwing.
 */
import * as DateTime from "effect/DateTime"
import * as FastCheck from "effect/FastCheck"
import type { Json } from "../Json.js"
import { nested } from "./jsonValues.js"

export interface Hostile {
  readonly make: () => unknown
  readonly [FastCheck.toStringMethod]: () => string
}

const hostile = (name: string, make: () => unknown): Hostile => ({ make, [FastCheck.toStringMethod]: () => name })

const thrower = (thrown: unknown) => () => {
  throw thrown
}

/** Every trap throws, also those that a look at the value goes through. */
const throwingProxy = (thrown: unknown, target: object = {}): object =>
  new Proxy(target, new Proxy({}, { get: () => thrower(thrown) }))

const revoked = (target: object): object => {
  const { proxy, revoke } = Proxy.revocable(target, {})
  revoke()
  return proxy
}

const cycle = (): object => {
  const value: { list: Array<object> } = { list: [] }
  value.list.push(value)
  return value
}

const define = (target: object, key: PropertyKey, descriptor: PropertyDescriptor): object =>
  Object.defineProperty(target, key, { configurable: true, ...descriptor })

const unreadable = (thrown: unknown): object => define({ a: 1 }, "b", { enumerable: true, get: thrower(thrown) })

const dateTime = (epochMillis: unknown): object => Object.assign(DateTime.unsafeMake(0), { epochMillis })

class Custom {
  readonly tenantId = "t"
  readonly a = 1
}

class CustomArray extends Array<unknown> {}

/** Nothing in it is visible twice: each level holds the one below two times. */
const explosion = (): Json => {
  let value: Json = "x"
  for (let i = 0; i < 60; i++) value = [value, value]
  return value
}

let abyss: Json | undefined

const strings: ReadonlyArray<string> = [
  "",
  " ",
  "0",
  "1",
  "any",
  "noStream",
  "forward",
  "type",
  "NaN",
  "null",
  "undefined",
  "\0",
  "a\0b",
  "\ud800",
  "\udc00\ud800",
  "\ufffd",
  "\u202e",
  "e\u0301",
  "'",
  '"',
  "\\",
  "`",
  "%",
  "_",
  "$1",
  "?",
  ";--",
  "'; DROP TABLE es_events; --",
  "' OR '1'='1",
  "x') ON CONFLICT DO NOTHING; --",
  "{{7*7}}",
  "../../etc/passwd",
  "__proto__",
  "constructor",
  "toString",
  "prototype",
  "00000000-0000-0000-0000-000000000000",
  "00000000-0000-0000-0000-00000000000G",
  "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
  "{00000000-0000-0000-0000-000000000000}",
  "1f0",
  "1b0",
  "1fzzzzzzzzzzz",
  "x".repeat(255),
  "x".repeat(256),
  "\u00e9".repeat(128)
]

const numbers: ReadonlyArray<number> = [
  0,
  1,
  2,
  -1,
  0.5,
  -0.5,
  1001,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  2 ** 31,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 53,
  2 ** 53 + 2,
  -(2 ** 53) - 2,
  2 ** 63,
  1e21,
  5e-324,
  Number.MAX_VALUE
]

const common: ReadonlyArray<Hostile> = [
  ...strings.map((text) => hostile(JSON.stringify(text.length > 100 ? `${text.slice(0, 10)}…` : text), () => text)),
  ...numbers.map((number) => hostile(String(number), () => number)),
  hostile("-0", () => -0),
  hostile("undefined", () => undefined),
  hostile("null", () => null),
  hostile("true", () => true),
  hostile("0n", () => 0n),
  hostile("2n ** 64n", () => 2n ** 64n),
  hostile("a symbol", () => Symbol("s")),
  hostile("a function", () => () => 1),
  hostile("a class", () => Custom),
  hostile("{}", () => ({})),
  hostile("[]", () => []),
  hostile("[undefined]", () => [undefined]),
  hostile("[null]", () => [null]),
  hostile("a sparse array", () => new Array(3)),
  hostile("an array with a hole", () => Object.assign([], { 1: "a", length: 2 })),
  hostile("an array with length 2^32-1", () => new Array(2 ** 32 - 1)),
  hostile("an array with extra properties", () => Object.assign(["a"], { extra: 1 })),
  hostile("an array whose map gives bigints", () => define(["a"], "map", { value: () => [1n] })),
  hostile("an array whose iterator throws", () => define(["a"], Symbol.iterator, { value: thrower(new Error("no")) })),
  hostile("an array of a subclass", () => CustomArray.from(["a"])),
  hostile("an array with toJSON", () => define(["a"], "toJSON", { value: () => "changed" })),
  hostile("an array of arrays", () => [[["a"]]]),
  hostile("an array like", () => ({ length: 1, 0: "a" })),
  hostile("a cycle", cycle),
  hostile("an array in itself", () => {
    const list: Array<unknown> = []
    list.push(list)
    return list
  }),
  hostile("a Date", () => new Date(0)),
  hostile("an invalid Date", () => new Date(Number.NaN)),
  hostile("a Map", () => new Map([["a", 1]])),
  hostile("a Set", () => new Set(["a"])),
  hostile("a RegExp", () => /x/),
  hostile("an Error", () => new Error("e")),
  hostile("a class instance", () => new Custom()),
  hostile("a boxed number", () => Object(1)),
  hostile("a boxed string", () => Object("text")),
  hostile("a Promise", () => Promise.resolve(1)),
  hostile("a thenable", () => define({}, "then", { enumerable: true, value: () => 1 })),
  hostile("a Buffer", () => Buffer.from("bytes")),
  hostile("an ArrayBuffer", () => new ArrayBuffer(8)),
  hostile("a null-prototype object", () => Object.assign(Object.create(null), { a: 1 })),
  hostile("a frozen object", () => Object.freeze({ a: Object.freeze([1]) })),
  hostile("an object with toJSON", () => ({ a: 1, toJSON: () => "changed" })),
  hostile("an object with a hidden toJSON", () => define({ a: 1 }, "toJSON", { value: () => "changed" })),
  hostile("an object with a symbol key", () => ({ [Symbol("s")]: 1 })),
  hostile("an object with a misspelt key", () => ({ tenant: "t" })),
  hostile("an object with undefined in it", () => ({ a: undefined })),
  hostile("an own __proto__", () => JSON.parse('{"__proto__":{"polluted":1}}')),
  hostile("an object that inherits", () => Object.create({ tenantId: "t", a: 1 })),
  hostile("an object whose valueOf throws", () => ({ valueOf: thrower(1), toString: thrower(2) })),
  hostile("a getter that throws", () => unreadable(new Error("no"))),
  hostile("a getter that throws null", () => unreadable(null)),
  hostile("a getter that throws a symbol", () => unreadable(Symbol("s"))),
  hostile("a getter that throws an Error with a symbol as message", () =>
    unreadable(Object.assign(new Error(), { message: Symbol("s") }))
  ),
  hostile("a getter that throws an Error whose message throws", () =>
    unreadable(define(new Error(), "message", { get: thrower(new Error("no message")) }))
  ),
  hostile("a getter that throws a proxy that throws itself", () => {
    const thrown: object = new Proxy({}, new Proxy({}, { get: () => () => thrower(thrown)() }))
    return unreadable(thrown)
  }),
  hostile("a getter that throws a revoked proxy", () => unreadable(revoked({}))),
  hostile("a getter that gives something else each time", () => {
    let n = 0
    return define({}, "a", { enumerable: true, get: () => (n % 2 === 0 ? `text ${n++}` : BigInt(n++)) })
  }),
  hostile("a proxy that throws", () => throwingProxy(new Error("trap"))),
  hostile("a proxy of an array that throws", () => throwingProxy(new Error("trap"), [])),
  hostile("a revoked proxy", () => revoked({})),
  hostile("a revoked proxy of an array", () => revoked([])),
  hostile("a proxy that forwards", () => new Proxy({ a: [1] }, {})),
  hostile("a proxy of an array that forwards", () => new Proxy(["a"], {})),
  hostile("a DateTime of NaN", () => dateTime(Number.NaN)),
  hostile("a DateTime of infinity", () => dateTime(Number.POSITIVE_INFINITY)),
  hostile("a DateTime of half a millisecond", () => dateTime(0.5)),
  hostile("a DateTime of text", () => dateTime("0")),
  hostile("a DateTime of a bigint", () => dateTime(0n)),
  hostile("a DateTime after year 9999", () => DateTime.unsafeMake(Date.UTC(10000, 0, 1))),
  hostile("a DateTime before year 0", () => DateTime.unsafeMake(-8.64e15)),
  hostile("a DateTime in a zone", () => DateTime.unsafeMakeZoned(0, { timeZone: 3_600_000 })),
  hostile("a DateTime", () => DateTime.unsafeMake(1)),
  hostile("512 levels", () => nested(512)),
  hostile("513 levels", () => nested(513))
]

const large: ReadonlyArray<Hostile> = [
  hostile("a text of 1 MiB", () => "x".repeat(2 ** 20)),
  hostile("NULs of 1 MiB as JSON", () => "\0".repeat(2 ** 20 / 6)),
  hostile("an object with 10,000 keys", () =>
    Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`k${i}`, i]))
  ),
  hostile("100,000 levels", () => {
    abyss ??= nested(100_000)
    return abyss
  }),
  hostile("a value that would explode", explosion)
]

// The default `string()` of fast-check makes neither NUL nor lone surrogates.
const codeUnit = FastCheck.oneof(
  { weight: 4, arbitrary: FastCheck.integer({ min: 0x20, max: 0x7e }) },
  { weight: 1, arbitrary: FastCheck.constantFrom(0, 0x0a, 0x22, 0x27, 0x5c, 0x7f, 0x2028, 0xfeff, 0xfffd, 0xffff) },
  { weight: 1, arbitrary: FastCheck.integer({ min: 0xd800, max: 0xdfff }) },
  { weight: 1, arbitrary: FastCheck.integer({ min: 0, max: 0xffff }) }
)

export const text: FastCheck.Arbitrary<string> = FastCheck.array(codeUnit, { maxLength: 12 }).map((units) =>
  String.fromCharCode(...units)
)

const number = FastCheck.oneof(
  FastCheck.integer({ min: -10, max: 10 }),
  FastCheck.maxSafeInteger(),
  FastCheck.double({ noNaN: true, noDefaultInfinity: true })
).map((value) => (Object.is(value, -0) ? 0 : value))

/** Any JSON value, a few levels deep. */
export const json: FastCheck.Arbitrary<Json> = FastCheck.letrec<{ json: Json }>((tie) => ({
  json: FastCheck.oneof(
    { depthSize: "small", withCrossShrink: true },
    FastCheck.constantFrom<Json>(null, true, false, ""),
    number,
    text,
    FastCheck.array(tie("json"), { maxLength: 4 }),
    FastCheck.array(FastCheck.tuple(text, tie("json")), { maxLength: 4 }).map((entries) =>
      Object.fromEntries(entries.filter(([key]) => key !== "__proto__"))
    )
  )
})).json

export const any: FastCheck.Arbitrary<Hostile> = FastCheck.oneof(
  { weight: 120, arbitrary: FastCheck.constantFrom(...common) },
  { weight: 40, arbitrary: text.map((value) => hostile(JSON.stringify(value), () => value)) },
  { weight: 40, arbitrary: json.map((value) => hostile(JSON.stringify(value), () => value)) },
  { weight: 1, arbitrary: FastCheck.constantFrom(...large) }
)
