/**
 * Decisions and appends as applications write them. test/types.test.ts compiles this file.
 */
import { Context, Effect, Match, Option, Schema } from "effect"
import { Aggregate } from "effect-stores"

const event = Schema.Union(
  Schema.TaggedStruct("Opened", { kind: Schema.Literal("private", "business") }),
  Schema.TaggedStruct("Paid", { amount: Schema.Number }),
  Schema.TaggedStruct("Closed", {})
)
const Account = Aggregate.make({
  domain: "account",
  state: Schema.Struct({ status: Schema.Literal("none", "open", "closed"), balance: Schema.Number }),
  event,
  initial: { status: "none", balance: 0 },
  evolve: (state, event) => {
    switch (event._tag) {
      case "Opened":
        return { ...state, status: "open" }
      case "Paid":
        return { ...state, balance: state.balance + event.amount }
      case "Closed":
        return { ...state, status: "closed" }
    }
  }
})
const id = { tenantId: "acme", aggregateId: "1" }

class TooLittle extends Schema.TaggedError<TooLittle>()("TooLittle", { balance: Schema.Number }) {}
class Rates extends Context.Tag("Rates")<Rates, { readonly of: (kind: string) => Effect.Effect<number> }>() {}

// Events as they are, and none.
export const plain = Aggregate.execute(Account, id, () => [{ _tag: "Opened", kind: "private" }])
export const none = Aggregate.execute(Account, id, () => [])

// By the state.
export const ternary = Aggregate.execute(Account, id, ({ status }) => (status === "open" ? [{ _tag: "Closed" }] : []))
export const refusing = Aggregate.execute(Account, id, ({ balance }) =>
  balance < 10 ? Effect.fail(new TooLittle({ balance })) : [{ _tag: "Paid", amount: -10 }]
)
export const byBranches = Aggregate.execute(Account, id, ({ balance, status }, version) => {
  if (version === 0) return [{ _tag: "Opened", kind: "business" }]
  if (balance < 0) return Effect.fail("debts" as const)
  return status === "closed" ? [] : [{ _tag: "Paid", amount: -balance }, { _tag: "Closed" }]
})

// As Effects.
export const succeeding = Aggregate.execute(Account, id, () => Effect.succeed([{ _tag: "Opened", kind: "private" }]))
export const generated = Aggregate.execute(Account, id, ({ balance }) =>
  Effect.gen(function* () {
    const rates = yield* Rates
    const rate = yield* rates.of("private")
    if (balance * rate < 10) return yield* new TooLittle({ balance })
    return [{ _tag: "Paid", amount: -10 * rate }]
  })
)

// By Match, and by Option.
export const matched = Aggregate.execute(Account, id, ({ status }) =>
  Match.value(status).pipe(
    Match.when("none", () => [{ _tag: "Opened", kind: "private" } as const]),
    Match.when("open", () => [{ _tag: "Closed" } as const]),
    Match.orElse(() => [])
  )
)
export const optional = Aggregate.execute(Account, id, ({ balance }) =>
  Option.match(
    Option.liftPredicate(balance, (balance) => balance > 0),
    {
      onNone: () => [],
      onSome: (amount) => [{ _tag: "Paid", amount: -amount } as const]
    }
  )
)

// Made elsewhere.
const decide = ({ balance }: typeof Account.initial): ReadonlyArray<typeof event.Type> => [
  { _tag: "Paid", amount: balance }
]
export const apart = Aggregate.execute(Account, id, decide, { retries: 3, metadata: { trace: "1" } })

export const appended = Aggregate.append(Account, id, [{ _tag: "Opened", kind: "private" }, { _tag: "Closed" }], {
  expected: "noStream"
})
export const appendedTyped = Account.events.append(Aggregate.streamId(Account, id), [{ _tag: "Paid", amount: 1 }], {
  expected: 3,
  commandId: "1"
})
export const piped = Account.pipe(Aggregate.load(id))
