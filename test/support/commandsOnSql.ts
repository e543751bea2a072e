/**
 * What a CommandStore on a database promises beyond its contract, as tests for both of them: transactions of the
 * caller's, outcome and events as one, processes that race, die, and come back from the dead.
 */
import { Chunk, Context, Deferred, Effect, Fiber, Layer, Option, Schema, type Scope, Stream } from "effect"
import { CommandStore, CommandStoreEncoded, type Errors, EventStore } from "effect-stores"
import { describe, expect, it } from "vitest"
import { spawnWorker } from "./child.js"
import { isFull, kills as killsMax } from "./scale.js"

export interface Transactional {
  readonly transaction: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Errors.StoreFailure, R>
}

/** What `PgDatabase` and `SqliteDatabase` have in common. */
export interface Database extends Transactional {
  readonly sql: { readonly unsafe: (text: string) => Effect.Effect<ReadonlyArray<unknown>, unknown> }
}

/** One database for the caller alone. */
export interface Place<I> {
  readonly database: Layer.Layer<I, unknown>
  /** What tells a worker of it. */
  readonly env: Env
}

export interface Backend<I, D extends Transactional> {
  readonly place: () => Promise<Place<I>>
  readonly tag: Effect.Effect<D, never, I>
  readonly commands: () => Layer.Layer<CommandStore.CommandStore, unknown, I>
  readonly events: () => Layer.Layer<EventStore.EventStore, unknown, I>
  readonly port: () => Effect.Effect<CommandStoreEncoded.Encoded, unknown, I>
  /** Where a process can be paused while another takes its command over. */
  readonly pauses: ReadonlyArray<string>
}

type Env = Readonly<Record<string, string>>

export interface Stores<D extends Transactional> {
  readonly commands: CommandStore.CommandStoreShape
  readonly events: EventStore.EventStoreShape
  readonly database: D
}

export const newCommand = (id: string = crypto.randomUUID()): CommandStore.NewCommand => ({
  id,
  tenantId: "t",
  domain: "d",
  type: "Do",
  data: { id }
})

export const encodedCommand = (id: string): CommandStoreEncoded.EncodedNewCommand => ({
  id,
  tenantId: "t",
  domain: "d",
  type: "Do",
  data: "1",
  metadata: "{}",
  keyId: null,
  instanceId: null,
  createdAt: 0,
  dueAt: null
})

export const lease = (leaseMs: number): CommandStoreEncoded.EncodedLease => ({ token: crypto.randomUUID(), leaseMs })

const streamOf = (aggregateId: string): EventStore.StreamId => ({ tenantId: "t", domain: "d", aggregateId })

const event = { type: "Happened", data: 1 }

const success = Schema.String

class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}

const statusOf = (commands: CommandStore.CommandStoreShape, id: string) =>
  Effect.map(commands.get(id), (found) => Option.getOrUndefined(found)?.status)

/** Lines of a worker, one after another, and what it ended with. */
const startExecutor = (file: URL, env: Env) => {
  const worker = spawnWorker(file, { env })
  const lines = worker.lines[Symbol.asyncIterator]()
  return {
    line: async (): Promise<unknown> => {
      const { done, value } = await lines.next()
      return done ? `ended: ${JSON.stringify(await worker.exited)}` : JSON.parse(value)
    },
    kill: worker.kill,
    exited: worker.exited
  }
}

/** Runs an effect with both stores on a database of its own. */
const withStoresOf =
  <I, D extends Transactional>(backend: Pick<Backend<I, D>, "place" | "tag" | "commands" | "events">) =>
  async <A, E>(body: (stores: Stores<D>, place: Place<I>) => Effect.Effect<A, E, I | Scope.Scope>): Promise<A> => {
    const place = await backend.place()
    return Effect.all([CommandStore.CommandStore, EventStore.EventStore, backend.tag]).pipe(
      Effect.flatMap(([commands, events, database]) => body({ commands, events, database }, place)),
      Effect.scoped,
      Effect.provide(Layer.provideMerge(Layer.merge(backend.commands(), backend.events()), place.database)),
      Effect.runPromise
    )
  }

/** What the port promises to the lift, on any backend. */
export const commandsAtThePort = (
  withPort: (use: (port: CommandStoreEncoded.Encoded) => Effect.Effect<void, unknown>) => Promise<void>
): void => {
  describe("at the port", () => {
    const outcome = { status: "succeeded", outcome: "1", outcomeKeyId: null, finishedAt: 1 } as const

    it("no attempt begins while a lease runs, and none that another has seen begin before", () =>
      withPort((port) =>
        Effect.gen(function* () {
          const { id } = newCommand()
          const leaseMs = 60_000
          const existing = Effect.map(port.create(encodedCommand(id), lease(1)), (found) =>
            found._tag === "Exists" ? found : expect.unreachable("it exists")
          )
          const leaseLeft = Effect.map(existing, ({ leaseLeftMs }) => leaseLeftMs)
          const first = lease(leaseMs)
          const { position } = (yield* port.create(encodedCommand(id), first)).command
          expect(yield* leaseLeft).toBeGreaterThan(30_000)
          expect(yield* leaseLeft).toBeLessThanOrEqual(leaseMs)
          expect((yield* existing).token).toBe(first.token)
          const takeOver = (attempts: number) => {
            const taking = lease(leaseMs)
            return Effect.map(port.takeOver({ ...taking, id, position, attempts }), (taken) => (taken ? taking : null))
          }
          expect(yield* takeOver(1)).toBe(null)
          expect(yield* port.renew({ ...first, id, leaseMs: 0 })).toBe(true)
          expect(yield* leaseLeft).toBe(0)
          expect(yield* takeOver(0)).toBe(null)
          const taken = yield* Effect.all([takeOver(1), takeOver(1), takeOver(1)], { concurrency: "unbounded" })
          const [second, ...others] = taken.filter((lease) => lease !== null)
          expect(others).toEqual([])
          expect((yield* existing).token).toBe(second?.token)
          expect(yield* port.renew({ ...first, id })).toBe(false)
          expect(yield* port.renew({ ...(second ?? first), id })).toBe(true)
          expect(yield* port.finish({ id, position, ...outcome })).toBe(true)
          expect(yield* port.finish({ id, position, ...outcome })).toBe(false)
          expect(yield* port.renew({ ...(second ?? first), id })).toBe(false)
          expect(yield* takeOver(2)).toBe(null)
          expect(yield* leaseLeft).toBe(0)
          expect(yield* port.get(id)).toMatchObject({ attempts: 2, ...outcome })
        })
      ))

    it("an attempt at a command that was deleted changes nothing of one that was created with its id", () =>
      withPort((port) =>
        Effect.gen(function* () {
          const { id } = newCommand()
          const [first, second] = [lease(60_000), lease(60_000)]
          const { position } = (yield* port.create(encodedCommand(id), first)).command
          expect(yield* port.delete(id)).toBe(true)
          yield* port.create({ ...encodedCommand(id), data: "2" }, second)
          const unchanged = port.create({ ...encodedCommand(id), data: "2" }, null)
          const before = yield* unchanged
          expect(yield* port.renew({ ...first, id, leaseMs: 0 })).toBe(false)
          expect(yield* port.finish({ id, position, ...outcome })).toBe(false)
          expect(yield* port.renew({ ...second, id, leaseMs: 0 })).toBe(true)
          expect(yield* port.takeOver({ ...first, id, position, attempts: 1 })).toBe(false)
          expect(yield* unchanged).toEqual({ ...before, leaseLeftMs: 0 })
        })
      ))

    it("data that was changed is marked, whatever it is sealed with later, and metadata and status are not", () =>
      withPort((port) =>
        Effect.gen(function* () {
          const { id } = newCommand()
          const changed = Effect.map(
            port.create(encodedCommand(id), null),
            (found) => found._tag === "Exists" && found.changed
          )
          const nothing = { id, data: null, metadata: null, keyId: null, status: null }
          const replace = (payloads: object, changes: boolean) =>
            Effect.flatMap(port.get(id), (was) =>
              was === null
                ? expect.unreachable("it exists")
                : port.replace({ id, was, payloads: { ...was, ...payloads }, changes })
            )
          yield* port.create(encodedCommand(id), null)
          yield* port.update({ ...nothing, metadata: "{}", status: outcome })
          expect(yield* replace({ data: "sealed", keyId: "k1" }, false)).toBe(true)
          expect(yield* changed).toBe(false)
          expect(yield* replace({ data: "other" }, true)).toBe(true)
          expect(yield* changed).toBe(true)
          expect(yield* replace({ data: "sealed again", keyId: "k2" }, false)).toBe(true)
          yield* port.update({ ...nothing, metadata: "{}" })
          expect(yield* changed).toBe(true)
          yield* port.delete(id)
          yield* port.create(encodedCommand(id), null)
          expect(yield* changed).toBe(false)
          yield* port.update({ ...nothing, data: "2" })
          expect(yield* changed).toBe(true)
        })
      ))

    it("the key of data and metadata changes with them, and that of the outcome with it", () =>
      withPort((port) =>
        Effect.gen(function* () {
          const { id } = newCommand()
          const keys = Effect.map(port.get(id), (found) => [found?.keyId, found?.outcomeKeyId, found?.data])
          yield* port.create({ ...encodedCommand(id), data: "sealed", keyId: "k1" }, null)
          const nothing = { id, data: null, metadata: null, keyId: null, status: null }
          const status = { ...outcome, outcomeKeyId: "o1" }
          expect(yield* port.update({ ...nothing, status })).toBe(true)
          expect(yield* keys).toEqual(["k1", "o1", "sealed"])
          expect(yield* port.update({ ...nothing, metadata: "sealed too", keyId: "k2" })).toBe(true)
          expect(yield* keys).toEqual(["k2", "o1", "sealed"])
          const opened = { status: "received", outcome: null, outcomeKeyId: null, finishedAt: null } as const
          expect(yield* port.update({ ...nothing, data: "3", status: opened })).toBe(true)
          expect(yield* keys).toEqual([null, null, "3"])
          expect(yield* port.get(id)).toMatchObject({ outcome: null, finishedAt: null, attempts: 0 })
        })
      ))
  })
}

/** What holds wherever there are transactions, in memory too. */
export const commandsInTransactions = <I, D extends Transactional>(
  backend: Pick<Backend<I, D>, "place" | "tag" | "commands" | "events" | "port">
): void => {
  const withStores = withStoresOf(backend)

  describe("inside a transaction of the caller's", () => {
    it("everything is seen, and undone with it", () =>
      withStores(({ commands, database, events }) =>
        Effect.gen(function* () {
          const [kept, deleted, pruned, added, executed, inside, refused] = [0, 1, 2, 3, 4, 5, 6].map(() =>
            newCommand()
          )
          for (const command of [kept, deleted, pruned]) yield* commands.create(command as CommandStore.NewCommand)
          const all = Effect.map(Stream.runCollect(commands.list()), Chunk.toReadonlyArray)
          const before = yield* all
          const failing = Effect.gen(function* () {
            yield* commands.create(added as CommandStore.NewCommand)
            yield* commands.update(kept?.id ?? "", { data: 2, status: "failed", outcome: "no" })
            expect(yield* commands.delete(deleted?.id ?? "")).toBe(true)
            const append = events.append(streamOf("a"), [event], { expected: "noStream" })
            yield* commands.execute(executed as CommandStore.NewCommand, Effect.as(append, "done"), { success })
            expect(yield* statusOf(commands, executed?.id ?? "")).toBe("succeeded")
            const more = events.append(streamOf("a"), [event], { expected: 1 })
            const options = { success, failure: Refused, transaction: true } as const
            yield* commands.execute(inside as CommandStore.NewCommand, Effect.as(more, "done"), options)
            const late = Effect.zipRight(
              events.append(streamOf("a"), [event], { expected: 2 }),
              new Refused({ why: "too late" })
            )
            yield* Effect.flip(commands.execute(refused as CommandStore.NewCommand, late, options))
            expect(yield* statusOf(commands, refused?.id ?? "")).toBe("failed")
            expect(yield* events.version(streamOf("a"))).toBe(2)
            expect(yield* statusOf(commands, kept?.id ?? "")).toBe("failed")
            expect(yield* commands.count()).toBe(6)
            yield* commands.reset
            expect(yield* commands.count()).toBe(0)
            return yield* Effect.fail("undo")
          })
          expect(yield* Effect.flip(database.transaction(failing))).toBe("undo")
          expect(yield* all).toEqual(before)
          expect(yield* events.version(streamOf("a"))).toBe(0)
        })
      ))

    it("a repeat, a clash and an attempt that was lost leave it as it is", () =>
      withStores(({ commands, database }) =>
        Effect.gen(function* () {
          const command = newCommand()
          yield* commands.create(command)
          const other = newCommand()
          yield* database.transaction(
            Effect.gen(function* () {
              expect((yield* commands.create(command)).attempts).toBe(0)
              expect(yield* Effect.flip(commands.create({ ...command, data: 2 }))).toMatchObject({
                _tag: "DuplicateCommand"
              })
              expect(yield* Effect.flip(commands.update(other.id, { data: 1 }))).toMatchObject({ _tag: "NotFound" })
              expect(yield* commands.delete(other.id)).toBe(false)
              yield* commands.create(other)
            })
          )
          expect(yield* commands.count()).toBe(2)
        })
      ))
  })

  describe("outcome and events as one", () => {
    it("an execution in a transaction commits both, and answers a repeat from the outcome", () =>
      withStores(({ commands, events }) =>
        Effect.gen(function* () {
          const command = newCommand()
          let runs = 0
          const work = Effect.gen(function* () {
            yield* events.append(streamOf("a"), [event], { expected: "noStream" })
            expect(yield* statusOf(commands, command.id)).toBe("received")
            return `run ${++runs}`
          })
          const execute = commands.execute(command, work, { success, transaction: true })
          expect(yield* execute).toBe("run 1")
          expect(yield* execute).toBe("run 1")
          expect(yield* events.version(streamOf("a"))).toBe(1)
          expect(yield* statusOf(commands, command.id)).toBe("succeeded")
        })
      ))

    it("a failure that is an outcome is kept, and what was written before it is not", () =>
      withStores(({ commands, events }) =>
        Effect.gen(function* () {
          const command = newCommand()
          const append = events.append(streamOf("a"), [event], { expected: "any" })
          const work = Effect.zipRight(append, new Refused({ why: "too late" }))
          const execute = commands.execute(command, work, { success, failure: Refused, transaction: true })
          for (const _ of [1, 2]) expect(yield* Effect.flip(execute)).toEqual(new Refused({ why: "too late" }))
          expect(yield* events.version(streamOf("a"))).toBe(0)
          expect(yield* statusOf(commands, command.id)).toBe("failed")
        })
      ))

    it("another failure, a defect and an interrupt leave neither, and the next that asks runs it", () =>
      withStores(({ commands, events }) =>
        Effect.gen(function* () {
          const ends: ReadonlyArray<Effect.Effect<never, string>> = [
            Effect.fail("down"),
            Effect.die(new Error("a bug")),
            Effect.interrupt
          ]
          for (const [n, end] of ends.entries()) {
            const command = newCommand()
            const append = events.append(streamOf(`${n}`), [event], { expected: "noStream" })
            const execute = (last: Effect.Effect<string, string>) =>
              commands.execute(command, Effect.zipRight(append, last), { success, transaction: true })
            expect((yield* Effect.exit(execute(end)))._tag).toBe("Failure")
            expect(yield* events.version(streamOf(`${n}`))).toBe(0)
            expect(yield* statusOf(commands, command.id)).toBe("received")
            expect(yield* execute(Effect.succeed("done"))).toBe("done")
            expect(yield* events.version(streamOf(`${n}`))).toBe(1)
          }
        })
      ))

    it("an outcome that was given meanwhile by an operator wins, and undoes what was written", () =>
      withStores(({ commands, events }) =>
        Effect.gen(function* () {
          const command = newCommand()
          const claimed = yield* Deferred.make<void>()
          const decided = yield* Deferred.make<void>()
          const append = Effect.as(events.append(streamOf("a"), [event], { expected: "any" }), "ran")
          const port = yield* backend.port()
          // Before it begins, since on a file nobody else writes afterwards.
          const pausing: CommandStoreEncoded.Encoded = {
            ...port,
            transaction: (self) =>
              Effect.zipRight(
                Effect.zipRight(Deferred.succeed(claimed, undefined), Deferred.await(decided)),
                port.transaction(self)
              )
          }
          const store = CommandStoreEncoded.make(pausing, { system: "test" })
          const execution = yield* Effect.fork(store.execute(command, append, { success, transaction: true }))
          yield* Deferred.await(claimed)
          yield* commands.update(command.id, { status: "succeeded", outcome: "by hand" })
          yield* Deferred.succeed(decided, undefined)
          expect(yield* Fiber.join(execution)).toBe("by hand")
          expect(yield* events.version(streamOf("a"))).toBe(0)
        })
      ))
  })
}

export const commandsOnSql = <I, D extends Database>(backend: Backend<I, D>): void => {
  const executor = new URL("../workers/executor.ts", import.meta.url)

  const withStores = withStoresOf(backend)

  commandsInTransactions(backend)

  it("an execution in a transaction refuses an append to a store on another database, and says what to do", () =>
    withStores(({ commands }) =>
      Effect.gen(function* () {
        const { database } = yield* Effect.promise(backend.place)
        const others = yield* Layer.build(Layer.provide(backend.events(), database))
        const events = Context.get(others, EventStore.EventStore)
        const append = events.append(streamOf("a"), [event], { expected: "any" })
        const command = newCommand()
        const execute = commands.execute(command, Effect.as(append, "done"), { success, transaction: true })
        expect(yield* Effect.flip(execute)).toMatchObject({
          _tag: "StoreError",
          operation: "append",
          cause: { message: expect.stringContaining("layerFromDatabase") }
        })
        expect(yield* events.version(streamOf("a"))).toBe(0)
        expect(yield* statusOf(commands, command.id)).toBe("received")
        yield* append
        expect(yield* events.version(streamOf("a"))).toBe(1)
      })
    ))

  describe("outcome and events as one, over processes", () => {
    const killsPerPlace = killsMax / 2
    const racing = 10
    it(`of a process that is killed between the two writes ${2 * killsPerPlace} times there are both or neither, and another completes it`, async () => {
      await withStores(({ commands, events }, { env }) =>
        Effect.gen(function* () {
          const kills = [
            ...Array.from({ length: killsPerPlace }, () => ["WORKER_STOP", "appended"] as const),
            ...Array.from({ length: killsPerPlace }, () => ["WORKER_STOP", "finished"] as const),
            // On its way into COMMIT.
            ...Array.from({ length: racing }, () => ["WORKER_REPORT", "finished"] as const)
          ]
          const versionOf = (id: string) => events.version(streamOf(`${id} worker`))
          const found = yield* Effect.forEach(
            kills,
            ([how, place]) =>
              Effect.gen(function* () {
                const { id } = newCommand()
                const worker = startExecutor(executor, {
                  ...env,
                  WORKER_NAME: "worker",
                  WORKER_COMMAND: id,
                  WORKER_TRANSACTION: "1",
                  WORKER_LEASE_MS: "100",
                  [how]: place
                })
                expect(yield* Effect.promise(worker.line)).toEqual({ at: place })
                worker.kill("SIGKILL")
                yield* Effect.promise(() => worker.exited)
                const both = (yield* statusOf(commands, id)) === "succeeded"
                // On PostgreSQL a COMMIT that was sent may be under way still: the lock tells when it is over.
                const append = events.append(streamOf(`${id} worker`), [event], { expected: "any" })
                const answer = yield* commands.execute(newCommand(id), Effect.as(append, "survivor"), { success })
                expect(yield* versionOf(id)).toBe(1)
                expect(both && answer !== "worker").toBe(false)
                if (how === "WORKER_STOP") expect(answer).toBe("survivor")
                return answer
              }),
            { concurrency: 2 }
          )
          const count = (answer: string) => found.filter((one) => one === answer).length
          console.log("killed between the two writes:", { neither: count("survivor"), both: count("worker") })
        })
      )
    })

    for (const pause of backend.pauses) {
      it(`a process that was paused (${pause}) while another took its command over commits nothing, and gets the other's outcome`, () =>
        withStores(({ commands, events }, { env }) =>
          Effect.gen(function* () {
            const { id } = newCommand()
            const worker = startExecutor(executor, {
              ...env,
              WORKER_NAME: "zombie",
              WORKER_COMMAND: id,
              WORKER_TRANSACTION: "1",
              WORKER_LEASE_MS: "100",
              WORKER_STOP: pause
            })
            expect(yield* Effect.promise(worker.line)).toEqual({ at: pause })
            const append = events.append(streamOf(`${id} successor`), [event], { expected: "any" })
            const execute = commands.execute(newCommand(id), Effect.as(append, "successor"), {
              success,
              transaction: true
            })
            expect(yield* execute).toBe("successor")
            worker.kill("SIGCONT")
            expect(yield* Effect.promise(worker.line)).toEqual({ answer: "successor" })
            expect(yield* Effect.promise(() => worker.exited)).toEqual({ code: 0, signal: null, stderr: "" })
            expect(yield* events.version(streamOf(`${id} zombie`))).toBe(0)
            expect(yield* events.version(streamOf(`${id} successor`))).toBe(1)
            expect(Option.getOrThrow(yield* commands.get(id)).attempts).toBe(2)
          })
        ))
    }
  })

  describe("without a transaction", () => {
    it("a process that was paused in its effect while another took over keeps its events, and gets the other's outcome", () =>
      withStores(({ commands, events }, { env }) =>
        Effect.gen(function* () {
          const { id } = newCommand()
          const worker = startExecutor(executor, {
            ...env,
            WORKER_NAME: "zombie",
            WORKER_COMMAND: id,
            WORKER_LEASE_MS: "100",
            WORKER_STOP: "appended"
          })
          expect(yield* Effect.promise(worker.line)).toEqual({ at: "appended" })
          expect(yield* commands.execute(newCommand(id), Effect.succeed("successor"), { success })).toBe("successor")
          worker.kill("SIGCONT")
          expect(yield* Effect.promise(worker.line)).toEqual({ answer: "successor" })
          expect(yield* events.version(streamOf(`${id} zombie`))).toBe(1)
          yield* Effect.promise(() => worker.exited)
        })
      ))

    for (const [leaseMs, blockMs, runs] of [
      [100, 500, isFull ? 20 : 2],
      [1_000, 1_500, isFull ? 20 : 1]
    ] as const) {
      it(
        `two processes whose effect blocks for ${blockMs} ms with a lease of ${leaseMs} ms come to one outcome`,
        () =>
          withStores(({ commands, events }, { env }) =>
            Effect.gen(function* () {
              const begun: Array<number> = []
              for (let run = 0; run < runs; run++) {
                const { id } = newCommand()
                const workers = ["one", "two"].map((name) =>
                  startExecutor(executor, {
                    ...env,
                    WORKER_NAME: name,
                    WORKER_COMMAND: id,
                    WORKER_LEASE_MS: `${leaseMs}`,
                    WORKER_BLOCK_MS: `${blockMs}`,
                    WORKER_PROCESSES: "2"
                  })
                )
                const lines = yield* Effect.promise(() =>
                  Promise.all(
                    workers.map(async ({ line }) => {
                      const lines: Array<unknown> = []
                      for (;;) {
                        const last = await line()
                        lines.push(last)
                        if (typeof last !== "object" || last === null || !("begun" in last)) return lines
                      }
                    })
                  )
                )
                const command = Option.getOrThrow(yield* commands.get(id))
                expect(command.status).toBe("succeeded")
                expect(lines.map((lines) => lines.at(-1))).toEqual([
                  { answer: Option.getOrThrow(command.outcome) },
                  { answer: Option.getOrThrow(command.outcome) }
                ])
                const begins = lines.flatMap((lines) => lines.slice(0, -1)).length
                // On a slow machine the lease of one may end between its append and its first word.
                expect(begins).toBeLessThanOrEqual(
                  (yield* events.version(streamOf(`${id} one`))) + (yield* events.version(streamOf(`${id} two`)))
                )
                begun.push(begins)
                yield* Effect.promise(() => Promise.all(workers.map(({ exited }) => exited)))
              }
              console.log(`begun with ${leaseMs} ms for ${blockMs} ms:`, begun.join(" "))
              // Each that is overtaken has twice the lease.
              expect(Math.max(...begun)).toBeLessThanOrEqual(8)
            })
          ),
        isFull ? 1_200_000 : 120_000
      )
    }

    it("the lease of a process that was killed is taken over after its end, and not before", () =>
      withStores(({ commands, database: { sql } }, { env }) =>
        Effect.gen(function* () {
          const { id } = newCommand()
          const worker = startExecutor(executor, {
            ...env,
            WORKER_NAME: "victim",
            WORKER_COMMAND: id,
            WORKER_LEASE_MS: "3000",
            WORKER_STOP: "appended"
          })
          expect(yield* Effect.promise(worker.line)).toEqual({ at: "appended" })
          worker.kill("SIGKILL")
          yield* Effect.promise(() => worker.exited)
          const [row] = yield* sql.unsafe(`select lease_end_ms as "end" from es_commands where id = '${id}'`)
          const leaseEndMs = Number((row as { readonly end: number | string }).end)
          let begunAtMs = 0
          const work = Effect.sync(() => {
            begunAtMs = Date.now()
            return "heir"
          })
          const askedAtMs = Date.now()
          expect(yield* commands.execute(newCommand(id), work, { success })).toBe("heir")
          expect(askedAtMs).toBeLessThan(leaseEndMs)
          // The server rounds its clock, the process cuts it.
          expect(begunAtMs).toBeGreaterThanOrEqual(leaseEndMs - 1)
          expect(Option.getOrThrow(yield* commands.get(id)).attempts).toBe(2)
        })
      ))
  })

  commandsAtThePort((use) => withStores(() => Effect.flatMap(backend.port(), use)))

  const race = (processes: number, fibers: number, number: number) => async () => {
    // Made by the workers, all at once.
    const place = await backend.place()
    const startedAt = Date.now()
    const workers = Array.from({ length: processes }, (_, n) =>
      spawnWorker(executor, {
        env: {
          ...place.env,
          WORKER_NAME: `process ${n}`,
          WORKER_PROCESSES: `${processes}`,
          WORKER_FIBERS: `${fibers}`,
          WORKER_COMMANDS: `${number}`
        }
      })
    )
    const answers = new Map<string, Array<string>>()
    await Promise.all(
      workers.map(async (worker) => {
        for await (const text of worker.lines) {
          const { id, ...answer } = JSON.parse(text)
          expect(answer, text).not.toHaveProperty("failure")
          const known = answers.get(id) ?? []
          answers.set(id, known)
          known.push(JSON.stringify(answer))
        }
        expect(await worker.exited).toEqual({ code: 0, signal: null, stderr: "" })
      })
    )
    expect(answers.size).toBe(number)
    for (const [id, all] of answers) {
      expect(all, id).toHaveLength(2 * processes)
      expect(new Set(all).size, id).toBe(1)
    }
    const layer = Layer.provide(Layer.merge(backend.commands(), backend.events()), place.database)
    await Effect.gen(function* () {
      const events = yield* EventStore.EventStore
      const commands = yield* CommandStore.CommandStore
      const ran = yield* Stream.runCollect(events.feed())
      const runs = new Set(Chunk.map(ran, ({ aggregateId }) => aggregateId))
      expect({ events: ran.length, commands: runs.size }).toEqual({ events: number, commands: number })
      const done = yield* Stream.runCollect(commands.list({ filter: { types: ["Do"] } }))
      expect(new Set(Chunk.map(done, ({ attempts }) => attempts))).toEqual(new Set([1]))
      expect(yield* commands.count({ statuses: ["succeeded"] })).toBe((number * 4) / 5)
      expect(yield* commands.count({ statuses: ["failed"] })).toBe(number / 5)
      const shares = [...new Set(Chunk.map(ran, ({ data }) => data))].map(
        (worker) => [...ran].filter(({ data }) => data === worker).length
      )
      if (processes === 2) {
        // Otherwise nobody raced.
        for (const share of shares) expect(share).toBeGreaterThan(number / 20)
        console.log("raced for commands:", {
          seconds: Math.round((Date.now() - startedAt) / 100) / 10,
          shares
        })
      }
    }).pipe(Effect.provide(layer), Effect.runPromise)
  }

  describe("across processes", () => {
    it(
      "two processes of 16 fibers that race for 1,000 commands run each exactly once, and all get the same outcome",
      race(2, 16, 1_000)
    )

    it("8 processes start at once on an empty database", race(8, 2, 10))
  })
}
