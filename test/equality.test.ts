/**
 * The comparison of test/support/equality.ts is that of every file of tests, this one too.
 */
import { assert as assertOfEffect } from "@effect/vitest"
import { Option } from "effect"
import { assert, expect, it } from "vitest"

it("vitest's assert tells values apart by their prototypes", () => {
  for (const { deepStrictEqual } of [assert, assertOfEffect]) {
    expect(() => deepStrictEqual<unknown>(Option.none(), Option.some(1))).toThrow()
    expect(() => deepStrictEqual<unknown>({ found: Option.none() }, { found: Option.some(1) })).toThrow()
    deepStrictEqual(Option.some({ n: 1 }), Option.some({ n: 1 }))
  }
})
