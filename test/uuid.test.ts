/**
 * Ids: new ones in the order of time, derived ones that depend on nothing but their arguments.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCheck } from "effect"
import { Uuid } from "effect-stores"

const id = "0192f0c1-2f6b-7000-8000-000000000000"
const uuid = FastCheck.uuid()
const part = FastCheck.oneof(
  FastCheck.string(),
  FastCheck.constantFrom("", "1", "-1", "s1:1", ",", `","`, "\0", "\ud800", "\ud801", "\ufffd", "é", "e\u0301"),
  FastCheck.integer(),
  FastCheck.constantFrom(1, -1, 0, 0.5, Number.NaN, Number.POSITIVE_INFINITY)
)
const parts = FastCheck.array(part, { maxLength: 4 })

describe("a derived id", () => {
  it("is the same for the same arguments, also in another version of this package", () => {
    assert.strictEqual(Uuid.derived(id, ["payments", "msg-4711"]), "0192f0c1-2f6b-81bc-a169-911e4b9e619b")
    assert.strictEqual(Uuid.derived(id, []), "0192f0c1-2f6b-8ecf-8339-e0bf7dd46157")
    assert.strictEqual(Uuid.derived(id, ["acme", "order", "1", 0, 1]), "0192f0c1-2f6b-821a-992d-d737a8260228")
  })

  it("is a canonical UUID of version 8 and the variant of the RFC, and begins like its origin", () => {
    FastCheck.assert(
      FastCheck.property(uuid, parts, (id, parts) => {
        const derived = Uuid.derived(id, parts)
        assert.isTrue(Uuid.isCanonical(derived))
        assert.strictEqual(derived, Uuid.derived(id, [...parts]))
        assert.strictEqual(derived.slice(0, 14), id.slice(0, 14))
        assert.strictEqual(derived[14], "8")
        assert.match(derived[19] as string, /[89ab]/)
      })
    )
  })

  it("is another one for other arguments, however alike", () => {
    FastCheck.assert(
      FastCheck.property(parts, parts, (one, other) => {
        FastCheck.pre(one.length !== other.length || one.some((part, i) => !Object.is(part, other[i])))
        assert.notStrictEqual(Uuid.derived(id, one), Uuid.derived(id, other))
      }),
      { numRuns: 2_000 }
    )
    const alike: ReadonlyArray<ReadonlyArray<string | number>> = [
      [],
      [""],
      ["", ""],
      ["1"],
      [1],
      ["11"],
      ["1", "1"],
      ["1", 1],
      [1, 1],
      [11],
      ["1,1"],
      [`1","1`],
      ["s1:1"],
      ["\ud800"],
      ["\ud801"],
      ["\ufffd"],
      [Number.NaN],
      ["NaN"],
      [Number.POSITIVE_INFINITY],
      ["null"]
    ]
    assert.strictEqual(new Set(alike.map((parts) => Uuid.derived(id, parts))).size, alike.length)
    const others = ["0192f0c1-2f6b-7000-8000-000000000001", "0192f0c1-2f6b-7001-8000-000000000000", id]
    assert.strictEqual(new Set(others.map((id) => Uuid.derived(id, [1]))).size, others.length)
  })

  it("is not made of what is no text and no number, nor for what is no UUID", () => {
    for (const part of [undefined, null, {}, ["a"], true, 1n]) {
      assert.throws(() => Uuid.derived(id, [part as never]), /must be texts and numbers/)
    }
    for (const bad of ["", "junk", id.toUpperCase(), undefined]) {
      assert.throws(() => Uuid.derived(bad as never, ["a"]), /must be a UUID/)
    }
  })

  it("is one of as many as its index counts, without a collision", () => {
    const ids = Array.from({ length: 100_000 }, (_, i) => Uuid.derived(id, ["acme", "order", "1", 0, i]))
    assert.strictEqual(new Set(ids).size, ids.length)
  })
})

describe("a new id", () => {
  it("is a canonical UUID of version 7 that begins with its time, so that ids sort by it", () => {
    const times = [0, 1, 1_700_000_000_000, 1_700_000_000_001, 2 ** 47]
    const ids = times.map((ms) => Uuid.v7(ms))
    assert.isTrue(ids.every(Uuid.isCanonical))
    assert.deepStrictEqual([...ids].sort(), ids)
    assert.isTrue(ids.every((id) => id[14] === "7"))
    assert.deepStrictEqual(
      ids.map((id) => Number.parseInt(id.replace("-", "").slice(0, 12), 16)),
      times
    )
  })
})

describe("the canonical form", () => {
  it("is lower case with hyphens and nothing around it", () => {
    assert.isTrue(Uuid.isCanonical(id))
    for (const bad of [
      "",
      id.toUpperCase(),
      ` ${id}`,
      `${id}\n`,
      `{${id}}`,
      id.replaceAll("-", ""),
      id.slice(1),
      `${id}0`
    ]) {
      assert.isFalse(Uuid.isCanonical(bad), bad)
    }
  })
})
