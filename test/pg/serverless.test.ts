/**
 * A function as docs/deploying.md has it: it starts before its server does, and it is frozen while the server closes all
 * connections.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { describeOwnPg } from "../support/backends.js"
import { spawnWorker } from "../support/child.js"
import { startPostgres } from "../support/postgres.js"

const call = (port: string, item: string) =>
  Effect.promise(async () => {
    const response = await fetch(`http://127.0.0.1:${port}/${item}`)
    return { status: response.status, body: await response.json() }
  })

describeOwnPg("a function on PostgreSQL", () => {
  it.live("waits for its server, and goes on after it was frozen and its connections were closed", () =>
    Effect.gen(function* () {
      const postgres = yield* Effect.acquireRelease(
        Effect.promise(() => startPostgres()),
        (server) => Effect.promise(() => server.stop())
      )
      const url = yield* Effect.promise(() => postgres.createDatabase())
      yield* Effect.promise(() => postgres.kill())

      const env = {
        EVENT_STORE: "pg",
        SNAPSHOT_STORE: "pg",
        PG_URL: url,
        PG_SHARED: "true",
        PG_POOL_MAX_OPEN_CONNS: "2"
      }
      const worker = yield* Effect.acquireRelease(
        Effect.sync(() => spawnWorker(new URL("../workers/handler.ts", import.meta.url), { env })),
        (worker) =>
          Effect.zipRight(
            Effect.sync(() => worker.kill()),
            Effect.promise(() => worker.exited)
          )
      )
      const lines = worker.lines[Symbol.asyncIterator]()
      const line = Effect.promise(async (): Promise<string> => (await lines.next()).value)
      const port = yield* line
      const first = yield* Effect.fork(call(port, "lamp"))
      assert.strictEqual(yield* line, "StoreUnavailable")
      yield* Effect.promise(() => postgres.start())
      assert.deepStrictEqual(yield* Fiber.join(first), { status: 200, body: { items: ["lamp"], snapshot: 1 } })

      worker.kill("SIGSTOP")
      yield* Effect.promise(() => postgres.restart("fast"))
      worker.kill("SIGCONT")
      assert.deepStrictEqual(yield* call(port, "desk"), { status: 200, body: { items: ["lamp", "desk"], snapshot: 2 } })
    }).pipe(Effect.scoped)
  )
})
