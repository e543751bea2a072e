/**
 * A shorter form of the README's first example: `npx tsx --conditions=source examples/first-steps.ts [file]`. With a file the events are
 * kept in it by Sqlite, without one in memory; the program is the same.
 */
import { randomUUID } from "node:crypto"
import { Console, Effect, Schema, Stream } from "effect"
import { EventStore } from "effect-stores"
import { EventStoreMemory } from "effect-stores/memory"
import { EventStoreSqlite } from "effect-stores/sqlite"

const OrderEvent = Schema.Union(
  Schema.TaggedStruct("Placed", { item: Schema.String, total: Schema.Number }),
  Schema.TaggedStruct("Shipped", { carrier: Schema.String })
)
const orders = EventStore.forSchema(OrderEvent)

const program = Effect.gen(function* () {
  const order = { tenantId: "acme", domain: "order", aggregateId: randomUUID() }

  const placed = yield* orders.append(order, [{ _tag: "Placed", item: "lamp", total: 12 }], { expected: "noStream" })
  yield* orders.append(order, [{ _tag: "Shipped", carrier: "bike" }], { expected: placed.version })

  // whoever decides on an old version loses, and learns it
  yield* orders
    .append(order, [{ _tag: "Shipped", carrier: "train" }], { expected: placed.version })
    .pipe(
      Effect.catchTag("VersionConflict", ({ actual }) => Console.log(`too late: version ${actual} is there already`))
    )

  // one order; then all there is, as it comes, from wherever one left off
  yield* Stream.runForEach(orders.read(order), ({ data, version }) => Console.log(`read ${version}: ${data._tag}`))
  yield* orders.subscribe({ after: placed.position - 1, filter: { domain: "order" } }).pipe(
    Stream.take(2),
    Stream.runForEach(({ data }) => Console.log(`followed: ${data._tag}`))
  )
})

const file = process.argv[2]
const store = file === undefined ? EventStoreMemory.layer() : EventStoreSqlite.layer({ filename: file })

Effect.runPromise(Effect.provide(program, store))
