/**
 * Aggregates as applications write them: each must compile as it stands. test/types.test.ts compiles this file.
 */
import { Match, Option, pipe, Schema } from "effect"
import { Aggregate, SnapshotPolicy } from "effect-stores"

const Opened = Schema.TaggedStruct("Opened", { by: Schema.String })
const Counted = Schema.TaggedStruct("Counted", { n: Schema.Number })
const Closed = Schema.TaggedStruct("Closed", {})
const event = Schema.Union(Opened, Counted, Closed)
type Event = typeof event.Type

// A literal status, changed by a switch with spreads.
const Status = Schema.Struct({ status: Schema.Literal("open", "closed"), n: Schema.Number })
export const bySwitch = Aggregate.make({
  domain: "switch",
  state: Status,
  event,
  initial: { status: "open", n: 0 },
  evolve: (state, event) => {
    switch (event._tag) {
      case "Opened":
        return { ...state, status: "open" }
      case "Counted":
        return { ...state, n: state.n + event.n }
      case "Closed":
        return { ...state, status: "closed" }
    }
  }
})

// The same by a ternary, with a policy of any state.
export const byTernary = Aggregate.make({
  domain: "ternary",
  state: Status,
  event,
  initial: { status: "open", n: 0 },
  evolve: (state, event) =>
    event._tag === "Counted" ? { ...state, n: state.n + event.n } : { status: "closed", n: state.n },
  snapshots: SnapshotPolicy.every(10)
})

// A ternary inside of the state, with a policy that knows the state.
export const withPolicy = Aggregate.make({
  domain: "policy",
  state: Status,
  event,
  initial: { status: "open", n: 0 },
  evolve: ({ n }, event) => ({ status: event._tag === "Closed" ? "closed" : "open", n: n + 1 }),
  snapshots: SnapshotPolicy.when(({ n, status }) => status === "closed" && n > 1)
})

// Policies that are composed.
export const withPolicies = Aggregate.make({
  domain: "policies",
  state: Status,
  event,
  initial: { status: "open", n: 0 },
  evolve: (state) => state,
  snapshots: pipe(
    SnapshotPolicy.every(100),
    SnapshotPolicy.or(SnapshotPolicy.sourcingOver("20 millis")),
    SnapshotPolicy.or(SnapshotPolicy.when((state: typeof Status.Type) => state.status === "closed"))
  )
})

// By Match over the tags.
export const byMatch = Aggregate.make({
  domain: "match",
  state: Status,
  event,
  initial: { status: "open", n: 0 },
  evolve: (state, event) =>
    Match.value(event).pipe(
      Match.tagsExhaustive({
        Opened: () => ({ ...state, status: "open" as const }),
        Counted: ({ n }) => ({ ...state, n: state.n + n }),
        Closed: () => ({ ...state, status: "closed" as const })
      })
    )
})

// By Match that says what it returns, so that literals keep their types.
export const byMatchReturning = Aggregate.make({
  domain: "matchReturning",
  state: Status,
  event,
  initial: { status: "open", n: 0 },
  evolve: (state, event) =>
    Match.value(event).pipe(
      Match.withReturnType<typeof Status.Type>(),
      Match.tag("Counted", ({ n }) => ({ ...state, n: state.n + n })),
      Match.orElse(() => ({ ...state, status: "closed" }))
    )
})

// A tagged union: each event leads to another member of it.
const Lifecycle = Schema.Union(
  Schema.TaggedStruct("New", {}),
  Schema.TaggedStruct("Open", { by: Schema.String, n: Schema.Number }),
  Schema.TaggedStruct("Done", { n: Schema.Number })
)
export const taggedUnion = Aggregate.make({
  domain: "union",
  state: Lifecycle,
  event,
  initial: { _tag: "New" },
  evolve: (state, event) => {
    switch (event._tag) {
      case "Opened":
        return { _tag: "Open", by: event.by, n: 0 }
      case "Counted":
        return state._tag === "Open" ? { ...state, n: state.n + event.n } : state
      case "Closed":
        return { _tag: "Done", n: state._tag === "Open" ? state.n : 0 }
    }
  },
  snapshots: SnapshotPolicy.when((state) => state._tag === "Done")
})

// A class.
class Account extends Schema.Class<Account>("Account")({
  status: Schema.Literal("open", "closed"),
  balance: Schema.Number
}) {
  get isOpen(): boolean {
    return this.status === "open"
  }
}
export const ofClass = Aggregate.make({
  domain: "class",
  state: Account,
  event,
  initial: new Account({ status: "open", balance: 0 }),
  evolve: (account, event) =>
    event._tag === "Counted" ? new Account({ ...account, balance: account.balance + event.n }) : account,
  snapshots: SnapshotPolicy.when((account) => !account.isOpen)
})

// Tagged classes, as state and as events.
class Empty extends Schema.TaggedClass<Empty>()("Empty", {}) {}
class Filled extends Schema.TaggedClass<Filled>()("Filled", { n: Schema.Number }) {}
class Added extends Schema.TaggedClass<Added>()("Added", { n: Schema.Number }) {}
class Removed extends Schema.TaggedClass<Removed>()("Removed", {}) {}
export const taggedClasses = Aggregate.make({
  domain: "taggedClasses",
  state: Schema.Union(Empty, Filled),
  event: Schema.Union(Added, Removed),
  initial: new Empty(),
  evolve: (_, event) => (event._tag === "Added" ? new Filled({ n: event.n }) : new Empty())
})

// Options: as the state itself, and in a field.
export const option = Aggregate.make({
  domain: "option",
  state: Schema.Option(Schema.Struct({ by: Schema.String, status: Schema.Literal("open", "closed") })),
  event,
  initial: Option.none(),
  evolve: (state, event) =>
    event._tag === "Opened"
      ? Option.some({ by: event.by, status: "open" })
      : Option.map(state, (state) => ({ ...state, status: "closed" }))
})
export const optionField = Aggregate.make({
  domain: "optionField",
  state: Schema.Struct({ by: Schema.Option(Schema.String), kind: Schema.optional(Schema.Literal("a", "b")) }),
  event,
  initial: { by: Option.none() },
  evolve: (state, event) =>
    event._tag === "Opened" ? { ...state, by: Option.some(event.by), kind: "a" } : { by: Option.none() }
})

// Nested, with lists, tuples and records.
const Order = Schema.Struct({
  customer: Schema.Struct({ address: Schema.Struct({ country: Schema.Literal("DE", "FR") }) }),
  lines: Schema.Array(Schema.Struct({ sku: Schema.String, state: Schema.Literal("held", "sent") })),
  range: Schema.Tuple(Schema.Number, Schema.Literal("from", "to")),
  totals: Schema.Record({ key: Schema.String, value: Schema.Number })
})
export const nested = Aggregate.make({
  domain: "nested",
  state: Order,
  event,
  initial: { customer: { address: { country: "DE" } }, lines: [], range: [0, "from"], totals: {} },
  evolve: (state, event) =>
    event._tag === "Counted"
      ? {
          ...state,
          customer: { ...state.customer, address: { country: "FR" } },
          lines: [...state.lines, { sku: `${event.n}`, state: "held" }],
          range: [event.n, "to"],
          totals: { ...state.totals, [event.n]: event.n }
        }
      : { ...state, lines: state.lines.map((line) => ({ ...line, state: "sent" })) }
})

// A literal as the state, and one that is transformed, branded or has defaults.
export const literal = Aggregate.make({
  domain: "literal",
  state: Schema.Literal("open", "closed"),
  event,
  initial: "open",
  evolve: (_, event) => (event._tag === "Closed" ? "closed" : "open")
})
const Sku = Schema.String.pipe(Schema.brand("Sku"))
export const transformed = Aggregate.make({
  domain: "transformed",
  state: Schema.Struct({
    at: Schema.Date,
    sku: Schema.NullOr(Sku),
    status: Schema.optionalWith(Schema.Literal("open", "closed"), { default: () => "open" })
  }),
  event,
  initial: { at: new Date(0), sku: null, status: "open" },
  evolve: (state, event) => (event._tag === "Opened" ? { ...state, sku: Sku.make(event.by), status: "closed" } : state)
})

// `evolve` that was written on its own.
const evolve = (state: typeof Status.Type, event: Event): typeof Status.Type =>
  event._tag === "Counted" ? { ...state, n: state.n + event.n } : state
export const apart = Aggregate.make({
  domain: "apart",
  state: Status,
  event,
  initial: { status: "open", n: 0 },
  evolve
})

// One event only, which the state does not need to look at.
export const single = Aggregate.make({
  domain: "single",
  state: Schema.Struct({ flag: Schema.Literal("on", "off") }),
  event: Counted,
  initial: { flag: "off" },
  evolve: () => ({ flag: "on" })
})

// Of mutable parts.
export const mutable = Aggregate.make({
  domain: "mutable",
  state: Schema.mutable(
    Schema.Struct({
      lines: Schema.mutable(Schema.Array(Schema.mutable(Schema.Struct({ kind: Schema.Literal("a", "b") })))),
      pair: Schema.mutable(Schema.Tuple(Schema.Number, Schema.Literal("a", "b")))
    })
  ),
  event,
  initial: { lines: [], pair: [0, "a"] },
  evolve: (state, event) => ({ lines: [...state.lines, { kind: "a" }], pair: [event._tag === "Closed" ? 1 : 0, "b"] })
})
