/**
 * Which types of events or commands a Schema says that it knows. Readers ask the store for those alone, so a type that
 * is missing here would never be read.
 */
import { Schema } from "effect"
import { expect, it } from "vitest"
import { tagsOf } from "../src/internal/taggedPayload.js"

const Placed = Schema.TaggedStruct("Placed", { n: Schema.Number })
const Paid = Schema.TaggedStruct("Paid", {})
const Either = Schema.Struct({ _tag: Schema.Literal("Sent", "Lost") })

it("the types of a union are those of its members, each once", () => {
  expect(tagsOf(Schema.Union(Placed, Schema.Union(Paid, Either), Placed.pipe(Schema.filter(() => true))))).toEqual([
    "Placed",
    "Paid",
    "Sent",
    "Lost"
  ])
})

it("a union with a member of any type does not tell its types", () => {
  expect(tagsOf(Schema.Union(Placed, Schema.Struct({ _tag: Schema.String })))).toBeUndefined()
  expect(tagsOf(Schema.Union(Schema.Struct({ _tag: Schema.String }), Placed))).toBeUndefined()
})
