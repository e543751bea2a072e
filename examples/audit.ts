/**
 * Commands that run once, and the way from a command to its events and back. Run it with
 * `npx tsx --conditions=source examples/audit.ts`.
 */
import { Console, Effect, Layer, Option, Schema, Stream } from "effect"
import { Aggregate, CommandStore, EventStore, Uuid } from "effect-stores"
import { CommandStoreSqlite, EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"

const Account = Aggregate.make({
  domain: "account",
  state: Schema.Struct({ balance: Schema.Number }),
  event: Schema.Union(
    Schema.TaggedStruct("Deposited", { amount: Schema.Number }),
    Schema.TaggedStruct("Withdrawn", { amount: Schema.Number })
  ),
  initial: { balance: 0 },
  evolve: ({ balance }, event) => ({
    balance: event._tag === "Deposited" ? balance + event.amount : balance - event.amount
  })
})

const Transfer = Schema.TaggedStruct("Transfer", { from: Schema.String, to: Schema.String, amount: Schema.Number })
type Transfer = typeof Transfer.Type
const transfers = CommandStore.forSchema(Transfer)

class TooLittleMoney extends Schema.TaggedError<TooLittleMoney>()("TooLittleMoney", { balance: Schema.Number }) {}

const tenantId = "acme"
const account = (aggregateId: string): Aggregate.Id => ({ tenantId, aggregateId })

/** Both accounts change, and the outcome is kept, in one transaction: all of it or nothing, and once. */
const transfer = (id: string, command: Transfer) =>
  transfers.execute(
    command,
    { id, tenantId, domain: "bank" },
    Effect.gen(function* () {
      const { amount, from, to } = command
      const { state } = yield* Aggregate.execute(Account, account(from), ({ balance }) =>
        balance < amount ? Effect.fail(new TooLittleMoney({ balance })) : [{ _tag: "Withdrawn", amount }]
      )
      yield* Aggregate.execute(Account, account(to), () => [{ _tag: "Deposited", amount }])
      return state.balance
    }),
    { success: Schema.Number, failure: TooLittleMoney, transaction: true }
  )

/** A command, and the events that it led to, in the order in which they were appended. */
const eventsOf = (commandId: string) =>
  Effect.gen(function* () {
    const command = Option.getOrThrow(yield* (yield* CommandStore.CommandStore).get(commandId))
    yield* Console.log(`${command.type} ${JSON.stringify(command.data)}: ${command.status}`)
    const events = (yield* EventStore.EventStore).feed({ filter: { commandId } })
    yield* Stream.runForEach(events, ({ aggregateId, data, type, version }) =>
      Console.log(`  ${aggregateId} ${version}: ${type} ${JSON.stringify(data)}`)
    )
  })

/** Why an account is as it is: its events, each with the command behind it. */
const causesOf = (aggregateId: string) =>
  Effect.gen(function* () {
    const events = (yield* EventStore.EventStore).read({ tenantId, domain: Account.domain, aggregateId })
    const commands = yield* CommandStore.CommandStore
    yield* Stream.runForEach(events, ({ commandId, type, version }) =>
      Effect.flatMap(commandId === undefined ? Effect.succeedNone : commands.get(commandId), (command) =>
        Console.log(
          `  ${version}: ${type}, because of ${Option.match(command, { onNone: () => "nothing", onSome: ({ type, id }) => `${type} ${id.slice(-4)}` })}`
        )
      )
    )
  })

const program = Effect.gen(function* () {
  yield* Aggregate.append(Account, account("alice"), [{ _tag: "Deposited", amount: 10 }], { expected: "noStream" })

  // The id comes from who asks, so that asking again is recognised: here it is made from a message's key.
  const idOf = (key: string) => Uuid.derived("0192f0c1-2f6b-7000-8000-000000000000", ["transfers", key])
  const first = { _tag: "Transfer", from: "alice", to: "bob", amount: 7 } as const
  const left = yield* transfer(idOf("message 1"), first)
  const again = yield* transfer(idOf("message 1"), first)
  yield* Console.log(`left: ${left}, asked again: ${again}`)
  const refused = yield* Effect.flip(transfer(idOf("message 2"), { ...first, amount: 5 }))
  yield* Console.log(`refused: ${refused._tag}`)

  yield* Console.log("from the command to its events:")
  yield* eventsOf(idOf("message 1"))
  yield* eventsOf(idOf("message 2"))
  yield* Console.log("from the account to its commands:")
  yield* causesOf("alice")
})

const stores = Layer.mergeAll(EventStoreSqlite.layerFromDatabase(), CommandStoreSqlite.layerFromDatabase())
const database = SqliteDatabase.layer({ filename: process.argv[2] ?? ":memory:" })

Effect.runPromise(program.pipe(Effect.provide(Layer.provide(stores, database))))
