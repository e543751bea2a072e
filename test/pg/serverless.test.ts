/**
 * A function as docs/deploying.md has it: it starts before its server does, and it is frozen while the server closes all
 * connections.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { describeOwnPg } from "../support/backends.js"
import { spawnWorker } from "../support/child.js"
import { startPostgres } from "../support/postgres.js"
import { query } from "./support/query.js"

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
      /** What it logs is passed over. */
      const line = (wanted: RegExp) =>
        Effect.promise(async () => {
          for (let next = await lines.next(); next.done !== true; next = await lines.next()) {
            if (wanted.test(next.value)) return next.value
          }
          throw new Error(`it ended without ${wanted}`)
        })
      const port = yield* line(/^\d+$/)
      const first = yield* Effect.fork(call(port, "lamp"))
      yield* line(/^StoreUnavailable$/)
      yield* Effect.promise(() => postgres.start())
      assert.deepStrictEqual(yield* Fiber.join(first), { status: 200, body: { items: ["lamp"] } })

      // What a load leaves behind is there before the answer is.
      yield* call(port, "desk")
      const { rows } = yield* query(url, "select version::int from es_snapshots")
      assert.deepStrictEqual(rows, [{ version: 1 }])

      worker.kill("SIGSTOP")
      yield* Effect.promise(() => postgres.restart("fast"))
      worker.kill("SIGCONT")
      assert.deepStrictEqual(yield* call(port, "chair"), { status: 200, body: { items: ["lamp", "desk", "chair"] } })
    }).pipe(Effect.scoped)
  )
})
