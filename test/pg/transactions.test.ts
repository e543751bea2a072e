/**
 * Transactions of the caller that end otherwise than by their own COMMIT: by hand, by a statement, under a fiber that
 * nobody waited for. What came too late fails typed, and nobody else notices.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Either, Exit, Fiber, Redacted, type Scheduler } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import { beforeAll, describe } from "vitest"
import { describePg, freshDatabase } from "../support/backends.js"

type Environment = EventStore.EventStore | PgDatabase.PgDatabase

describePg("transactions on PostgreSQL", () => {
  let url: string
  beforeAll(async () => {
    url = await freshDatabase()
  })

  /** With one connection, so that what is wrong with it hits whoever comes next. */
  const test = <A, E>(title: string, self: Effect.Effect<A, E, Environment>) =>
    it.live(title, () =>
      Effect.provide(self, EventStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns: 1 } }))
    )

  const newStream = () => ({ tenantId: "t", domain: "d", aggregateId: crypto.randomUUID() })
  const event = () => ({ id: crypto.randomUUID(), type: "Happened", data: {} })
  const services = Effect.all([EventStore.EventStore, PgDatabase.PgDatabase])

  /** The one connection is free: a notification of the last appends may be under way for a moment. */
  const isFree = Effect.flatMap(PgDatabase.PgDatabase, ({ state }) =>
    Effect.repeat(Effect.delay(state, "5 millis"), { until: ({ idle, open }) => idle === open }).pipe(
      Effect.timeoutFail({ duration: "90 seconds", onTimeout: () => new Error("the connection did not come back") })
    )
  )

  describe("with an old snapshot", () => {
    for (const isolation of ["repeatable read", "serializable"] as const) {
      test(
        `(${isolation}) refuse to delete a stream, typed, and every event stays`,
        Effect.gen(function* () {
          const [store, { transaction }] = yield* services
          const stream = newStream()
          yield* store.append(stream, [event(), event()], { expected: "noStream" })
          const refused = yield* Effect.flip(transaction(store.maintenance.deleteStream(stream), { isolation }))
          assert.strictEqual(refused._tag, "StoreError")
          assert.strictEqual(yield* store.version(stream), 2)
        })
      )

      test(
        `(${isolation}) as the user's default for the session refuse each of many appends, typed, and none is there`,
        Effect.gen(function* () {
          const [store, { sql }] = yield* services
          yield* sql.unsafe(`set default_transaction_isolation = '${isolation}'`)
          const streams = Array.from({ length: 8 }, newStream)
          // The last six share a statement.
          const refused = yield* Effect.forEach(
            streams,
            (stream) => Effect.flip(store.append(stream, [event()], { expected: "any" })),
            { concurrency: "unbounded" }
          )
          assert.deepStrictEqual(
            refused.map(({ _tag }) => _tag),
            streams.map(() => "StoreError")
          )
          assert.deepStrictEqual(
            yield* Effect.forEach(streams, store.version),
            streams.map(() => 0)
          )
        })
      )
    }
  })

  describe("a transaction of a fiber that nobody waited for", () => {
    /** Stops the fiber before one of its operations, until `go`. */
    const stoppedBefore = (operation: number): { readonly scheduler: Scheduler.Scheduler; readonly go: () => void } => {
      let operations = 0
      let going = false
      let stopped: (() => void) | undefined
      return {
        scheduler: {
          shouldYield: () => (++operations === operation && !going ? 0 : false),
          scheduleTask: (task) => {
            if (operations === operation && !going) stopped = task
            else queueMicrotask(task)
          }
        },
        go: () => {
          going = true
          stopped?.()
        }
      }
    }

    for (const depth of ["outermost", "nested"] as const) {
      test(
        `wherever it is when the ${depth} one around it ends, is whole or fails typed, and hits nobody else`,
        Effect.gen(function* () {
          const [store, { sql, transaction }] = yield* services
          const append = (stream: EventStore.StreamId) => store.append(stream, [event()], { expected: "any" })
          let [cameTooLate, cameInTime] = [false, false]
          // Stopped at first it begins only after the end, then it is in line behind the end, at last before it.
          for (let operation = 1; !(cameTooLate && cameInTime); operation++) {
            assert.isBelow(operation, 500)
            const [late, around, bystander] = [newStream(), newStream(), newStream()]
            const { go, scheduler } = stoppedBefore(operation)
            let forked: Fiber.Fiber<Exit.Exit<unknown, EventStore.AppendError>> | undefined
            const ending = Effect.gen(function* () {
              yield* append(around)
              forked = yield* Effect.forkDaemon(
                Effect.withScheduler(Effect.exit(transaction(Effect.zipRight(append(late), append(late)))), scheduler)
              )
              // The end of the transaction waits in line for this one, and whoever comes meanwhile waits behind it.
              yield* Effect.forkDaemon(sql`select pg_sleep(0.02)`)
              yield* Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))
              setImmediate(go)
            })
            const other = transaction(
              Effect.zipRight(append(bystander), Effect.zipRight(sql`select pg_sleep(0.005)`, append(bystander)))
            )
            if (depth === "outermost") {
              yield* Effect.all([transaction(ending), Effect.delay(other, "1 millis")], { concurrency: 2 })
            } else {
              yield* transaction(Effect.zipRight(transaction(ending), other))
            }
            if (forked === undefined) return assert.fail("it was not forked")
            const exit = yield* Fiber.join(forked)
            if (Exit.isSuccess(exit)) {
              cameInTime = cameTooLate
              assert.strictEqual(yield* store.version(late), 2)
            } else {
              cameTooLate = true
              assert.strictEqual(yield* Effect.map(Effect.flip(exit), ({ _tag }) => _tag), "StoreError")
              assert.strictEqual(yield* store.version(late), 0)
            }
            assert.strictEqual(yield* store.version(around), 1)
            assert.strictEqual(yield* store.version(bystander), 2)
          }
          yield* isFree
        })
      )
    }
  })

  test(
    "several statements of which one fails, and that leave a transaction open, fail nobody who waits",
    Effect.gen(function* () {
      const [store, { sql }] = yield* services
      const [one, two, three] = [newStream(), newStream(), newStream()]
      const [failed] = yield* Effect.all(
        [
          Effect.flip(sql.unsafe("begin; select 1/0")),
          store.append(one, [event(), event()], { expected: "noStream" }),
          store.version(one),
          store.append(two, [event()], { expected: "noStream" }),
          store.append(three, [event()], { expected: "noStream" })
        ],
        { concurrency: "unbounded" }
      )
      assert.strictEqual(failed._tag, "SqlError")
      assert.deepStrictEqual(yield* Effect.forEach([one, two, three], store.version), [2, 1, 1])
    })
  )

  test(
    "a connection that ends right after the server's error ends its statement, and the next has another",
    Effect.gen(function* () {
      const [store, { sql }] = yield* services
      // The error is the server's last word: it is never ready for another statement.
      const failed = yield* Effect.flip(sql`select pg_terminate_backend(pg_backend_pid())`)
      assert.deepInclude(failed.cause, { code: "57P01" })
      yield* store.append(newStream(), [event()], { expected: "noStream" })
      yield* isFree
    })
  )

  describe("ended by hand", () => {
    for (const end of ["commit", "rollback"]) {
      for (const depth of ["outermost", "nested"] as const) {
        test(
          `(${end}, ${depth}) refuse what comes next, typed, fail as a whole, and give the connection back`,
          Effect.gen(function* () {
            const [store, { sql, transaction }] = yield* services
            const [before, after] = [newStream(), newStream()]
            let next: Either.Either<unknown, EventStore.AppendError> | undefined
            const body = Effect.gen(function* () {
              yield* store.append(before, [event(), event()], { expected: "noStream" })
              yield* sql.unsafe(end)
              next = yield* Effect.either(store.append(after, [event()], { expected: "noStream" }))
            })
            const whole = yield* Effect.flip(transaction(depth === "nested" ? transaction(body) : body))
            assert.strictEqual(whole._tag, "StoreError")
            assert.strictEqual(next !== undefined && Either.isLeft(next) ? next.left._tag : "Appended", "StoreError")
            assert.strictEqual(yield* store.version(before), end === "commit" ? 2 : 0)
            assert.strictEqual(yield* store.version(after), 0)
            yield* store.append(after, [event()], { expected: "noStream" })
            yield* isFree
          })
        )
      }
    }

    test(
      "as the last that is done in them do not report success",
      Effect.gen(function* () {
        const [store, { sql, transaction }] = yield* services
        const stream = newStream()
        const append = store.append(stream, [event()], { expected: "noStream" })
        const failure = yield* Effect.flip(transaction(Effect.zipRight(append, sql`rollback`)))
        assert.strictEqual(failure._tag, "StoreError")
        assert.strictEqual(yield* store.version(stream), 0)
      })
    )
  })
})
