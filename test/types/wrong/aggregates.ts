/**
 * Mistakes in definitions and decisions. Each statement has the errors that stand above it, and no others
 * (test/types.test.ts).
 */
import { Effect, Schema } from "effect"
import { Aggregate, SnapshotPolicy } from "effect-stores"

const Counted = Schema.TaggedStruct("Counted", { n: Schema.Number })
const Closed = Schema.TaggedStruct("Closed", { why: Schema.Literal("done", "lost") })
const event = Schema.Union(Counted, Closed)
const state = Schema.Struct({ status: Schema.Literal("open", "closed"), n: Schema.Number })

// error: Type '"opened"' is not assignable to type '"open" | "closed"'. Did you mean '"open"'?
export const initialOfAnotherLiteral = Aggregate.make({
  domain: "counter",
  state,
  event,
  initial: { status: "opened", n: 0 },
  evolve: (state) => state
})

// error: Property 'initial' is missing
export const noInitial = Aggregate.make({ domain: "counter", state, event, evolve: (state) => state })

// error: Type '"close"' is not assignable to type '"open" | "closed"'. Did you mean '"closed"'?
export const evolvesToAnotherLiteral = Aggregate.make({
  domain: "counter",
  state,
  event,
  initial: { status: "open", n: 0 },
  evolve: (state, event) => (event._tag === "Closed" ? { ...state, status: "close" } : state)
})

// error: and '"Shut"' have no overlap
export const unknownEvent = Aggregate.make({
  domain: "counter",
  state,
  event,
  initial: { status: "open", n: 0 },
  evolve: (state, event) => (event._tag === "Shut" ? { ...state, status: "closed" } : state)
})

// error: Type 'undefined' is not assignable to type '{ readonly status: "open" | "closed"; readonly n: number; }'
// error: Not all code paths return a value
export const forgottenEvent = Aggregate.make({
  domain: "counter",
  state,
  event,
  initial: { status: "open", n: 0 },
  evolve: (state, event) => {
    switch (event._tag) {
      case "Counted":
        return { ...state, n: state.n + event.n }
    }
  }
})

// error: Property 'gone' is missing in type '{ readonly status: "open" | "closed"; readonly n: number; }'
export const policyOfAnotherState = Aggregate.make({
  domain: "counter",
  state,
  event,
  initial: { status: "open", n: 0 },
  evolve: (state) => state,
  snapshots: SnapshotPolicy.when(({ gone }: { readonly gone: boolean }) => gone)
})

// error: Property '_tag' is missing in type '{ readonly n: number; }'
export const eventWithoutTag = Aggregate.make({
  domain: "counter",
  state: Schema.String,
  event: Schema.Struct({ n: Schema.Number }),
  initial: "",
  evolve: (state) => state
})

// error: Did you mean to write 'snapshots'?
export const misspeltOption = Aggregate.make({
  domain: "counter",
  state,
  event,
  initial: { status: "open", n: 0 },
  evolve: (state) => state,
  snapshot: SnapshotPolicy.never
})

const Counter = Aggregate.make({
  domain: "counter",
  state,
  event,
  initial: { status: "open", n: 0 },
  evolve: (state) => state
})
const id = { tenantId: "acme", aggregateId: "1" }

// error: Did you mean '"Counted"'?
export const misspeltTag = Aggregate.execute(Counter, id, () => [{ _tag: "Count", n: 1 }])

// error: Type '"gone"' is not assignable to type '"done" | "lost"'
export const anotherField = Aggregate.execute(Counter, id, () => [{ _tag: "Closed", why: "gone" }])

// error: Property 'n' is missing
export const missingField = Aggregate.execute(Counter, id, () => [{ _tag: "Counted" }])

// error: Type '"gone"' is not assignable to type '"done" | "lost"'
export const anotherFieldInAnEffect = Aggregate.execute(Counter, id, () =>
  Effect.succeed([{ _tag: "Closed", why: "gone" }])
)

// error: Property 'sum' does not exist on type '{ readonly status: "open" | "closed"; readonly n: number; }'
export const unknownFieldOfTheState = Aggregate.execute(Counter, id, ({ sum }) => [{ _tag: "Counted", n: sum }])

// error: is not assignable to type 'Decided<
export const noArray = Aggregate.execute(Counter, id, () => ({ _tag: "Counted", n: 1 }))

// error: 'retry' does not exist in type 'ExecuteOptions'
export const misspeltRetries = Aggregate.execute(Counter, id, () => [], { retry: 3 })

// error: Property 'aggregateId' is missing in type '{ tenantId: string; }'
export const halfAnId = Aggregate.execute(Counter, { tenantId: "acme" }, () => [])

// error: Type '"Count"' is not assignable to type
export const appendsAnotherTag = Aggregate.append(Counter, id, [{ _tag: "Count", n: 1 }], { expected: "any" })

// error: Did you mean to write 'expected'?
export const misspeltExpected = Aggregate.append(Counter, id, [{ _tag: "Counted", n: 1 }], { expect: "any" })

// error: Expected 4 arguments, but got 3
export const noExpected = Aggregate.append(Counter, id, [{ _tag: "Counted", n: 1 }])
