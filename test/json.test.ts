/**
 * The strict JSON encoder: what it takes comes back as it was, everything else is refused with its place.
 */
import assert from "node:assert/strict"
import { Either, FastCheck } from "effect"
import { Json } from "effect-stores"
import { describe, test } from "vitest"

const text = FastCheck.array(
  FastCheck.oneof(
    FastCheck.integer({ min: 0, max: 0xffff }),
    FastCheck.constantFrom(0, 0x22, 0x5c, 0x2028, 0xd800, 0xdbff, 0xdc00, 0xdfff, 0x0a),
    FastCheck.integer({ min: 0x20, max: 0x7e })
  ),
  { maxLength: 20 }
).map((units) => String.fromCharCode(...units))

const number = FastCheck.oneof(
  FastCheck.integer(),
  FastCheck.maxSafeInteger(),
  FastCheck.double({ noNaN: true, noDefaultInfinity: true })
).filter((value) => !Object.is(value, -0))

const json = FastCheck.letrec<{ value: Json.Json }>((tie) => ({
  value: FastCheck.oneof(
    { withCrossShrink: true },
    FastCheck.constantFrom<Json.Json>(null, true, false),
    number,
    text,
    FastCheck.array(tie("value"), { maxLength: 5 }),
    FastCheck.array(FastCheck.tuple(text, tie("value")), { maxLength: 5 }).map((entries) =>
      Object.fromEntries(entries.filter(([key]) => key !== "__proto__"))
    )
  )
})).value

const encoded = (value: unknown): string => Either.getOrThrow(Json.encode(value, "value"))

const refused = (value: unknown) => {
  const result = Json.encode(value, "value")
  assert.ok(Either.isLeft(result), "must be refused")
  assert.equal(result.left._tag, "InvalidInput")
  assert.notEqual(result.left.why, "")
  return result.left
}

const nested = (levels: number): unknown => {
  let value: unknown = 1
  for (let i = 0; i < levels; i++) value = i % 2 === 0 ? [value] : { a: value }
  return value
}

const thrower = (thrown: unknown) => () => {
  throw thrown
}

describe("Json.encode", () => {
  test("every JSON value comes back equal, from the same text that JSON.stringify writes", () => {
    FastCheck.assert(
      FastCheck.property(json, (value) => {
        const written = encoded(value)
        assert.equal(written, JSON.stringify(value))
        assert.deepEqual(JSON.parse(written), value)
      }),
      { numRuns: 5000 }
    )
  })

  test("the generator makes NUL, lone surrogates and empty keys", () => {
    const written = FastCheck.sample(json, { numRuns: 2000, seed: 1 }).map(encoded)
    for (const part of ["\\u0000", "\\ud8", "\\udc", '"":']) assert.ok(written.some((value) => value.includes(part)))
  })

  const values: ReadonlyArray<readonly [name: string, value: unknown, what: string]> = [
    ["undefined", undefined, "value"],
    ["an undefined element", { a: [1, undefined] }, "value.a[1]"],
    ["a function", [() => 1], "value[0]"],
    ["a class", { a: class {} }, "value.a"],
    ["a symbol", Symbol("s"), "value"],
    ["a symbol as key", { a: { [Symbol("s")]: 1 } }, "value.a"],
    ["a bigint", [[1n]], "value[0][0]"],
    ["NaN", { a: Number.NaN }, "value.a"],
    ["Infinity", [1, Number.POSITIVE_INFINITY], "value[1]"],
    ["-Infinity", Number.NEGATIVE_INFINITY, "value"],
    ["-0", { a: [-0] }, "value.a[0]"],
    ["a sparse array", [new Array(1)], "value[0]"],
    ["an array with a hole in the middle", Object.assign([1], { 2: 3, length: 3 }), "value"],
    ["an array with an extra property", { a: Object.assign([1], { extra: 2 }) }, "value.a"],
    ["an array with an extra symbol", Object.assign([1], { [Symbol("s")]: 2 }), "value"],
    ["a Date", { at: new Date(0) }, "value.at"],
    ["a Map", new Map(), "value"],
    ["a Set", new Set(), "value"],
    ["a RegExp", /x/, "value"],
    ["an Error", new Error("e"), "value"],
    ["a Promise", Promise.resolve(), "value"],
    ["bytes", { a: new Uint8Array(1) }, "value.a"],
    ["a boxed number", Object(1), "value"],
    ["a boxed string", Object("a"), "value"],
    ["a boxed boolean", Object(true), "value"],
    [
      "a class instance",
      new (class Point {
        x = 1
      })(),
      "value"
    ],
    ["an object that inherits from another", Object.create({ a: 1 }), "value"],
    ["an object with toJSON", { a: { toJSON: () => 1 } }, "value.a"],
    ["an own __proto__", JSON.parse('{"a":{"__proto__":1}}'), "value.a"],
    ["513 levels", nested(513), "value"],
    ["100,000 levels", nested(100_000), "value"],
    ["a getter that throws", { a: Object.defineProperty({}, "b", { enumerable: true, get: thrower(1) }) }, "value.a.b"],
    ["a proxy that throws", { a: new Proxy({}, { ownKeys: thrower(new Error("trap")) }) }, "value.a"]
  ]
  for (const [name, value, what] of values) {
    test(`${name} is refused by its place`, () => {
      const error = refused(value)
      assert.ok(error.what.startsWith(what), `${error.what} must begin with ${what}`)
    })
  }

  test("a toJSON that is not enumerable is refused as well: JSON would call it", () => {
    refused(Object.defineProperty({ a: 1 }, "toJSON", { value: () => "other" }))
    refused(Object.defineProperty(["a"], "toJSON", { value: () => "other" }))
  })

  test("what JSON keeps although it looks odd is taken", () => {
    for (const value of [
      Object.assign(Object.create(null), { a: 1 }),
      Object.freeze({ a: Object.freeze([1]) }),
      { toJSON: 1, constructor: 2, length: 3, prototype: 4, "": 5 },
      new Proxy({ a: [1] }, {}),
      Number.MAX_VALUE,
      5e-324,
      2 ** 53 + 2,
      nested(512)
    ]) {
      assert.equal(encoded(value), JSON.stringify(value))
    }
  })

  test("a cycle is refused, through objects and arrays", () => {
    const object: { self?: unknown } = {}
    object.self = { list: [object] }
    refused(object)
    const list: Array<unknown> = []
    list.push(list)
    assert.equal(refused(list).why, "contains itself")
  })

  test("a value that occurs twice without a cycle is no cycle", () => {
    const shared = { a: 1 }
    assert.equal(encoded([shared, shared, { shared }]), '[{"a":1},{"a":1},{"shared":{"a":1}}]')
  })

  test("a getter is read once: what was checked is what is written", () => {
    let reads = 0
    const value = Object.defineProperty({}, "a", {
      enumerable: true,
      get: () => (reads++ === 0 ? "first" : Number.NaN)
    })
    assert.equal(encoded(value), '{"a":"first"}')
    assert.equal(reads, 1)
  })

  // 2^100 leaves: without the limit it would not end.
  test("shared parts that would write without end are refused by size", () => {
    let value: unknown = "x"
    for (let i = 0; i < 100; i++) value = [value, value]
    assert.match(refused(value).why, /exceeds 16777216 bytes/)
  })

  test("the limit of size counts bytes of UTF-8, quotes included", () => {
    const room = Json.payloadBytesMax - 2
    assert.equal(encoded("x".repeat(room)).length, Json.payloadBytesMax)
    refused("x".repeat(room + 1))
    assert.ok(Either.isRight(Json.encode("\u00e9".repeat(room / 2), "value")))
    refused("\u00e9".repeat(room / 2 + 1))
    refused("\u{1f600}".repeat(Json.payloadBytesMax / 4))
  })

  test("whatever is thrown at it, it answers with a value", () => {
    const self: object = new Proxy({}, new Proxy({}, { get: () => () => thrower(self)() }))
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    for (const thrown of [
      undefined,
      null,
      1,
      Symbol("s"),
      self,
      proxy,
      Object.assign(new Error(), { message: Symbol() })
    ]) {
      refused(Object.defineProperty({}, "a", { enumerable: true, get: thrower(thrown) }))
    }
    refused(self)
    refused(proxy)
  })

  test("a property that is undefined is left out, and one after it is named by its place", () => {
    assert.equal(
      encoded({ a: undefined, b: { c: undefined }, d: [{ e: undefined, f: 1 }], g: undefined }),
      '{"b":{},"d":[{"f":1}]}'
    )
    assert.equal(refused({ a: undefined, b: { c: undefined, d: 1n } }).what, "value.b.d")
  })

  test("a long path is cut, a long key too", () => {
    const { what } = refused(nested(600))
    assert.ok(what.length < 200, what)
    assert.ok(refused({ ["k".repeat(10_000)]: 1n }).what.length < 200)
  })
})
