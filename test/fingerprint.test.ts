/**
 * What makes older snapshots outdated: the fingerprint of an aggregate's Schemas, as its `schemaVersion` shows it.
 */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { Schema } from "effect"
import { Aggregate } from "effect-stores"
import { assert, describe, it } from "vitest"

const event = Schema.TaggedStruct("Happened", {})

const fingerprint = <A, I>(state: Schema.Schema<A, I>): string =>
  Aggregate.make({
    domain: "d",
    state,
    event,
    // Never decoded, since nothing is loaded.
    initial: undefined as A,
    evolve: (state) => state
  }).schemaVersion

interface Node {
  readonly value: number
  readonly children: ReadonlyArray<Node>
}

const recursive = (value: Schema.Schema<number>): Schema.Schema<Node> => {
  const node: Schema.Schema<Node> = Schema.Struct({
    value,
    children: Schema.Array(Schema.suspend((): Schema.Schema<Node> => node))
  })
  return node
}

interface List {
  readonly head: number
  readonly tail: List | null
}

/** Each step down is another Schema. */
const unending = (head: Schema.Schema<number>): Schema.Schema<List> =>
  Schema.Struct({ head, tail: Schema.NullOr(Schema.suspend(() => unending(head))) })

/** Each as it would be built by another run of the program: all differ from each other, and none from itself. */
const schemas: Readonly<Record<string, () => Schema.Schema.AnyNoContext>> = {
  struct: () => Schema.Struct({ a: Schema.Number, b: Schema.String }),
  "a field more": () => Schema.Struct({ a: Schema.Number, b: Schema.String, c: Schema.String }),
  "a field less": () => Schema.Struct({ a: Schema.Number }),
  "a field renamed": () => Schema.Struct({ a: Schema.Number, c: Schema.String }),
  "types exchanged": () => Schema.Struct({ a: Schema.String, b: Schema.Number }),
  "a field optional": () => Schema.Struct({ a: Schema.Number, b: Schema.optionalWith(Schema.String, { exact: true }) }),
  "a field optional or undefined": () => Schema.Struct({ a: Schema.Number, b: Schema.optional(Schema.String) }),
  "a field with default": () =>
    Schema.Struct({ a: Schema.Number, b: Schema.optionalWith(Schema.String, { default: () => "" }) }),
  "a field under another key": () =>
    Schema.Struct({ a: Schema.Number, b: Schema.propertySignature(Schema.String).pipe(Schema.fromKey("c")) }),
  "a field under a third key": () =>
    Schema.Struct({ a: Schema.Number, b: Schema.propertySignature(Schema.String).pipe(Schema.fromKey("d")) }),
  "a field that may be null": () => Schema.Struct({ a: Schema.Number, b: Schema.NullOr(Schema.String) }),
  "nested struct": () => Schema.Struct({ n: Schema.Struct({ a: Schema.Number, b: Schema.String }) }),
  "nested deeper": () => Schema.Struct({ n: Schema.Struct({ n: Schema.Struct({ a: Schema.Number }) }) }),
  "awkward key": () => Schema.Struct({ 'a:number,"b': Schema.String }),
  "literal 1": () => Schema.Literal(1),
  "literal 2": () => Schema.Literal(2),
  'literal "1"': () => Schema.Literal("1"),
  "literal 1n": () => Schema.Literal(1n),
  "literal null": () => Schema.Literal(null),
  'literal "null"': () => Schema.Literal("null"),
  "literal true": () => Schema.Literal(true),
  "literals 1, 2": () => Schema.Literal(1, 2),
  enums: () => Schema.Enums({ A: 0, B: 1 }),
  "other enums": () => Schema.Enums({ A: 0, B: 2 }),
  template: () => Schema.TemplateLiteral("a", Schema.String),
  "other template": () => Schema.TemplateLiteral("a", Schema.Number),
  string: () => Schema.String,
  number: () => Schema.Number,
  boolean: () => Schema.Boolean,
  unknown: () => Schema.Unknown,
  object: () => Schema.Object,
  "at least 1": () => Schema.String.pipe(Schema.minLength(1)),
  "at least 2": () => Schema.String.pipe(Schema.minLength(2)),
  "at most 2": () => Schema.String.pipe(Schema.maxLength(2)),
  "at least 1 and at most 2": () => Schema.String.pipe(Schema.minLength(1), Schema.maxLength(2)),
  pattern: () => Schema.String.pipe(Schema.pattern(/a/)),
  "other pattern": () => Schema.String.pipe(Schema.pattern(/b/)),
  "pattern with flag": () => Schema.String.pipe(Schema.pattern(/a/i)),
  int: () => Schema.Int,
  "greater 1": () => Schema.Number.pipe(Schema.greaterThan(1)),
  "greater 2": () => Schema.Number.pipe(Schema.greaterThan(2)),
  "named, greater 1": () => Schema.Number.pipe(Schema.greaterThan(1)).annotations({ identifier: "Amount" }),
  "named, greater 2": () => Schema.Number.pipe(Schema.greaterThan(2)).annotations({ identifier: "Amount" }),
  "named, greater 1n": () => Schema.BigInt.pipe(Schema.greaterThanBigInt(1n)).annotations({ identifier: "Amount" }),
  "named, greater 2n": () => Schema.BigInt.pipe(Schema.greaterThanBigInt(2n)).annotations({ identifier: "Amount" }),
  "own check": () => Schema.Number.pipe(Schema.filter((n) => n > 1, { identifier: "Own" })),
  "other own check": () => Schema.Number.pipe(Schema.filter((n) => n > 2, { identifier: "Other" })),
  "number from string": () => Schema.NumberFromString,
  "date from string": () => Schema.Date,
  "date from number": () => Schema.DateFromNumber,
  "trimmed by hand": () => Schema.Trim,
  lowercased: () => Schema.Lowercase,
  "transformed to an int": () =>
    Schema.transform(Schema.String, Schema.Int, { strict: true, decode: Number, encode: String }),
  array: () => Schema.Array(Schema.String),
  "non-empty array": () => Schema.NonEmptyArray(Schema.String),
  "array of numbers": () => Schema.Array(Schema.Number),
  "tuple of one": () => Schema.Tuple(Schema.String),
  "tuple of two": () => Schema.Tuple(Schema.String, Schema.Number),
  "tuple the other way round": () => Schema.Tuple(Schema.Number, Schema.String),
  "tuple, second optional": () => Schema.Tuple(Schema.String, Schema.optionalElement(Schema.Number)),
  "tuple with rest": () => Schema.Tuple([Schema.String], Schema.Number),
  "record of numbers": () => Schema.Record({ key: Schema.String, value: Schema.Number }),
  "record of strings": () => Schema.Record({ key: Schema.String, value: Schema.String }),
  "record with checked keys": () =>
    Schema.Record({ key: Schema.String.pipe(Schema.minLength(2)), value: Schema.Number }),
  "struct and record": () =>
    Schema.Struct({ a: Schema.Number }, Schema.Record({ key: Schema.String, value: Schema.Number })),
  union: () => Schema.Union(Schema.String, Schema.Number),
  "larger union": () => Schema.Union(Schema.String, Schema.Number, Schema.Boolean),
  // The first member that fits is taken, so their order has a meaning.
  "union the other way round": () => Schema.Union(Schema.Number, Schema.String),
  // All of these are arrays when they are stored.
  chunk: () => Schema.Chunk(Schema.String),
  list: () => Schema.List(Schema.String),
  set: () => Schema.ReadonlySet(Schema.String),
  "hash set": () => Schema.HashSet(Schema.String),
  map: () => Schema.ReadonlyMap({ key: Schema.String, value: Schema.Number }),
  "hash map": () => Schema.HashMap({ key: Schema.String, value: Schema.Number }),
  option: () => Schema.Option(Schema.String),
  "option or null": () => Schema.OptionFromNullOr(Schema.String),
  class: () => class Account extends Schema.Class<Account>("Account")({ a: Schema.Number }) {},
  "class with another field": () => class Account extends Schema.Class<Account>("Account")({ b: Schema.Number }) {},
  "class with another name": () => class Owner extends Schema.Class<Owner>("Owner")({ a: Schema.Number }) {},
  "tagged class": () =>
    class Account extends Schema.TaggedClass<Account>("Account")("Account", { a: Schema.Number }) {},
  recursive: () => recursive(Schema.Number),
  "recursive with another field": () => recursive(Schema.Int),
  "recursive, what it is in memory": () =>
    Schema.typeSchema(recursive(Schema.NumberFromString as unknown as Schema.Schema<number>)),
  "recursive by a function": () => unending(Schema.Number),
  "recursive by a function, another": () => unending(Schema.Int),
  "recursive class": () => {
    class Category extends Schema.Class<Category>("Category")({
      name: Schema.NumberFromString,
      within: Schema.Array(Schema.suspend((): Schema.Schema<Category, { readonly name: string }> => Category as never))
    }) {}
    return Category
  }
}

describe("The fingerprint", () => {
  it("is the same for a Schema that is built again", () => {
    for (const [name, schema] of Object.entries(schemas)) {
      assert.strictEqual(fingerprint(schema()), fingerprint(schema()), name)
    }
  })

  it("is another for every Schema that reads or stores anything else", () => {
    const seen = new Map<string, string>()
    for (const [name, schema] of Object.entries(schemas)) {
      const found = fingerprint(schema())
      assert.strictEqual(seen.get(found), undefined, `that of "${name}" too`)
      seen.set(found, name)
    }
  })

  it("does not depend on the order of fields, nor on what is for readers only", () => {
    const there = Schema.Struct({ a: Schema.Number, b: Schema.Struct({ c: Schema.String, d: Schema.Date }) })
    const back = Schema.Struct({ b: Schema.Struct({ d: Schema.Date, c: Schema.String }), a: Schema.Number })
    assert.strictEqual(fingerprint(there), fingerprint(back))
    const described = Schema.Struct({
      a: Schema.Number.annotations({ description: "an amount", examples: [1] }),
      b: there.fields.b
    }).annotations({ identifier: "State", title: "State", description: "the state" })
    assert.strictEqual(fingerprint(there), fingerprint(described))
    const c = Schema.propertySignature(Schema.Number).pipe(Schema.fromKey("a"))
    const d = Schema.propertySignature(Schema.Number).pipe(Schema.fromKey("b"))
    assert.strictEqual(fingerprint(Schema.Struct({ c, d })), fingerprint(Schema.Struct({ d, c })))
  })

  it("changes with the events as well as with the state, and carries snapshotVersion", () => {
    const definition = { domain: "d", state: Schema.Number, initial: 0, evolve: (state: number) => state }
    const versions = [
      Aggregate.make({ ...definition, event }),
      Aggregate.make({ ...definition, event: Schema.TaggedStruct("Happened", { n: Schema.Number }) }),
      Aggregate.make({ ...definition, event: Schema.Union(event, Schema.TaggedStruct("Ended", {})) }),
      Aggregate.make({ ...definition, event, snapshotVersion: "1" }),
      Aggregate.make({ ...definition, event, snapshotVersion: "2" })
    ].map(({ schemaVersion }) => schemaVersion)
    assert.strictEqual(new Set(versions).size, versions.length)
    assert.match(versions[4] as string, /^2\/[0-9a-f]{16}$/)
  })

  it("tells transformations with the same ends apart by their names", () => {
    const schemas = [Schema.Uint8ArrayFromHex, Schema.Uint8ArrayFromBase64, Schema.Uint8ArrayFromBase64Url]
    assert.strictEqual(new Set(schemas.map((schema) => fingerprint(schema))).size, schemas.length)
  })

  it("goes with the initial state", () => {
    const limited = (limit: number) =>
      Aggregate.make({
        domain: "limited",
        state: Schema.Struct({ limit: Schema.Number }),
        event: Schema.TaggedStruct("Raised", {}),
        initial: { limit },
        evolve: (state) => state
      }).schemaVersion
    assert.strictEqual(limited(100), limited(100))
    assert.notStrictEqual(limited(100), limited(500))
  })

  it("is the same in another process", async () => {
    // Whatever the process has built and numbered before.
    const program = `
      import { Schema } from "effect"
      import { Aggregate } from "effect-stores"
      for (let i = 0; i < 10; i++) Schema.Struct({ a: Schema.Number })
      class Owner extends Schema.Class("Owner")({ name: Schema.String.pipe(Schema.minLength(1)) }) {}
      const state = Schema.Struct({
        set: Schema.ReadonlySet(Schema.String), a: Schema.optionalWith(Schema.Int, { default: () => 1 }), owner: Owner
      })
      const event = Schema.TaggedStruct("Happened", {})
      console.log(Aggregate.make({ domain: "d", state, event, evolve: (state) => state }).schemaVersion)
    `
    class Owner extends Schema.Class<Owner>("Owner")({ name: Schema.String.pipe(Schema.minLength(1)) }) {}
    const here = fingerprint(
      Schema.Struct({
        owner: Owner,
        a: Schema.optionalWith(Schema.Int, { default: () => 2 }),
        set: Schema.ReadonlySet(Schema.String)
      })
    )
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--conditions=source", "--import", "tsx", "--input-type=module", "-e", program],
      { cwd: fileURLToPath(new URL("..", import.meta.url)) }
    )
    assert.strictEqual(stdout.trim(), here)
  })
})
