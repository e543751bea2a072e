/**
 * The function of docs/deploying.md behind HTTP, on what its environment names: to be started without a server, and to
 * be frozen, as a platform for functions does.
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { Console, Effect, Layer, ManagedRuntime, Schedule, Schema } from "effect"
import { Aggregate, SnapshotPolicy, SnapshotStore } from "effect-stores"
import { Stores } from "effect-stores/stores"

const Cart = Aggregate.make({
  domain: "cart",
  state: Schema.Struct({ items: Schema.Array(Schema.String) }),
  event: Schema.TaggedStruct("Added", { item: Schema.String }),
  initial: { items: [] },
  evolve: ({ items }, { item }) => ({ items: [...items, item] }),
  snapshots: SnapshotPolicy.every(1)
})

const runtime = ManagedRuntime.make(
  Stores.layer({ durable: true }).pipe(
    Layer.tapError(({ _tag }) => Console.log(_tag)),
    Layer.retry(Schedule.spaced("200 millis"))
  )
)

const handler = (item: string) =>
  runtime.runPromise(
    Effect.gen(function* () {
      const id = { tenantId: "acme", aggregateId: "1" }
      const { state } = yield* Aggregate.execute(Cart, id, () => [{ _tag: "Added", item }])
      yield* (yield* SnapshotStore.SnapshotStore).flush(Aggregate.streamId(Cart, id))
      return state
    })
  )

const server = createServer((request, response) => {
  handler(request.url?.slice(1) ?? "").then(
    (state) => response.end(JSON.stringify(state)),
    (error) => response.writeHead(500).end(JSON.stringify(String(error)))
  )
})
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port))
