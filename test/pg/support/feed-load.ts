/**
 * The load under which the feed is proved: writers that append in every shape the feed has to cope with and keep book
 * of what became of each attempt, readers that resume after interruption, and readers that are wrong. What must hold
 * stands in feed.test.ts.
 */
import { Cause, Context, Data, Duration, Effect, Exit, Fiber, Layer, Random, Redacted, Schedule, Stream } from "effect"
import { Errors, EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import Pg from "pg"

const streamCount = 200
const batchMax = 10
/** How long a slow transaction stays open after it has drawn positions. */
const slowMs = { min: 10, max: 500 }

export const event = () => ({ id: crypto.randomUUID(), type: "Happened", data: { text: "x".repeat(100) } })
export const streamOf = (n: number, domain = "d") => ({ tenantId: "t", domain, aggregateId: `s-${n}` })

/** A store of its own on the database, until the scope closes. */
export const build = (url: string, options: Partial<EventStorePg.Options> = {}) =>
  Effect.map(Layer.build(EventStorePg.layer({ url: Redacted.make(url), ...options })), (context) => ({
    store: Context.get(context, EventStore.EventStore),
    database: Context.get(context, PgDatabase.PgDatabase)
  }))

export const storedIds = (store: EventStore.EventStoreShape, after = 0) =>
  Effect.map(Stream.runCollect(store.feed({ after })), (events) => [...events].map(({ id }) => id))

/** What the writers were told. */
export class Ledger {
  readonly acknowledged: Array<string> = []
  /** Of the last event of each acknowledged append. */
  readonly results = new Map<string, EventStore.Appended>()
  /** Rolled back by the writer, or refused: must not be stored. */
  readonly undone: Array<string> = []
  /** Attempts of which the outcome was not told: each is stored as a whole or not at all. */
  readonly unknown: Array<ReadonlyArray<string>> = []
  rolledBack = 0
  refused = 0
  slow = 0
}

interface Attempt {
  readonly kept: ReadonlyArray<string>
  /** Of savepoints that are rolled back whatever becomes of the rest. */
  readonly undone: ReadonlyArray<string>
  readonly slow: boolean
  readonly run: Effect.Effect<
    ReadonlyArray<readonly [last: string, EventStore.Appended]>,
    EventStore.AppendError | Undo
  >
}

class Undo extends Data.TaggedError("Undo") {}

const undo = Effect.fail(new Undo())
const idsOf = (events: ReadonlyArray<{ readonly id: string }>) => events.map(({ id }) => id)
const batch = Effect.map(Random.nextIntBetween(1, batchMax + 1), (n) => Array.from({ length: n }, event))

/** One attempt in one of the shapes. */
const attempt = (store: EventStore.EventStoreShape, database: PgDatabase.PgDatabaseShape): Effect.Effect<Attempt> =>
  Effect.gen(function* () {
    const shape = yield* Random.nextIntBetween(0, 100)
    const number = yield* Random.nextIntBetween(0, streamCount)
    const one = shape < 20 ? [event()] : yield* batch
    const two = yield* batch
    const append = (domain: string, events: typeof one) =>
      Effect.map(store.append(streamOf(number, domain), events, { expected: "any" }), (result) => [
        [events.at(-1)?.id ?? "", result] as const
      ])
    const pause = Effect.sleep(Duration.millis(yield* Random.nextIntBetween(slowMs.min, slowMs.max + 1)))
    const both = [...idsOf(one), ...idsOf(two)]
    const savepoint = Effect.catchTag(
      database.transaction(Effect.zipRight(append("f", two), undo)),
      "Undo",
      () => Effect.void
    )

    if (shape < 65) return { kept: idsOf(one), undone: [], slow: false, run: append("d", one) }
    if (shape < 77) {
      const appends = [
        { stream: streamOf(number), events: one, expected: "any" as const },
        { stream: streamOf(number, "e"), events: two, expected: "any" as const }
      ]
      const run = Effect.map(store.appendAll(appends), (results) =>
        appends.map(({ events }, i) => [events.at(-1)?.id ?? "", results[i] as EventStore.Appended] as const)
      )
      return { kept: both, undone: [], slow: false, run }
    }
    // Slow from here on: positions are drawn long before they are committed, or never are.
    const transaction = (body: Attempt["run"], end: Effect.Effect<void, Undo> = Effect.void) =>
      database.transaction(Effect.zipLeft(body, Effect.zipRight(pause, end)))
    if (shape < 82) {
      return { kept: idsOf(one), undone: [], slow: true, run: transaction(append("d", one), undo) }
    }
    if (shape < 85) {
      const run = transaction(Effect.zipRight(savepoint, append("d", one)))
      return { kept: idsOf(one), undone: idsOf(two), slow: true, run }
    }
    if (shape < 89) {
      const run = transaction(Effect.zipLeft(append("d", one), savepoint))
      return { kept: idsOf(one), undone: idsOf(two), slow: true, run }
    }
    if (shape < 92) {
      const run = transaction(
        Effect.zipWith(Effect.zipLeft(append("d", one), pause), append("e", two), (first, second) => [
          ...first,
          ...second
        ])
      )
      return { kept: both, undone: [], slow: true, run }
    }
    return { kept: idsOf(one), undone: [], slow: true, run: transaction(append("d", one)) }
  })

const record = (ledger: Ledger, { kept, run, slow, undone }: Attempt): Effect.Effect<void, EventStore.AppendError> => {
  ledger.undone.push(...undone)
  if (slow) ledger.slow++
  return Effect.matchEffect(run, {
    onSuccess: (results) =>
      Effect.sync(() => {
        ledger.acknowledged.push(...kept)
        for (const [id, result] of results) ledger.results.set(id, result)
      }),
    onFailure: (error): Effect.Effect<void, EventStore.AppendError> => {
      switch (error._tag) {
        case "Undo":
          ledger.undone.push(...kept)
          ledger.rolledBack++
          return Effect.void
        case "CommitOutcomeUnknown":
          ledger.unknown.push(kept)
          return Effect.sleep("50 millis")
        case "PoolTimeout":
        case "StoreUnavailable":
          if (!error.retryable) return Effect.fail(error)
          ledger.undone.push(...kept)
          ledger.refused++
          return Effect.sleep("50 millis")
        default:
          return Effect.fail(error)
      }
    }
  })
}

/** Appends until the ledger has as many acknowledged events as are wanted. */
export const writer = (
  store: EventStore.EventStoreShape,
  database: PgDatabase.PgDatabaseShape,
  ledger: Ledger,
  eventsWanted: number
): Effect.Effect<void, EventStore.AppendError> =>
  Effect.whileLoop({
    while: () => ledger.acknowledged.length < eventsWanted,
    body: () => Effect.flatMap(attempt(store, database), (attempt) => record(ledger, attempt)),
    step: () => {}
  })

export interface Seen {
  readonly id: string
  readonly position: number
}

const positionOf = (seen: ReadonlyArray<Seen>): number => seen.at(-1)?.position ?? 0

/**
 * Reads the feed, is interrupted at a random moment, and resumes from the last position it has seen; when it is over,
 * once more to the end. Answers how often it has resumed.
 */
export const resumingReader = (
  store: EventStore.EventStoreShape,
  seen: Array<Seen>,
  isOver: () => boolean
): Effect.Effect<number, EventStore.ReadError> =>
  Effect.gen(function* () {
    const pass = Effect.suspend(() =>
      Stream.runForEachChunk(store.feed({ after: positionOf(seen) }), (chunk) =>
        Effect.sync(() => {
          for (const { id, position } of chunk) seen.push({ id, position })
        })
      )
    ).pipe(
      Effect.retry({
        while: Errors.isRetryable,
        schedule: Schedule.spaced("50 millis")
      })
    )
    let resumes = 0
    while (!isOver()) {
      const fiber = yield* Effect.fork(pass)
      yield* Effect.sleep(Duration.millis(yield* Random.nextIntBetween(1, 60)))
      const exit = yield* Fiber.interrupt(fiber)
      // A failure must not pass for the interrupt.
      if (Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause)) yield* exit
      resumes++
    }
    yield* pass
    return resumes
  })

/** A plain connection that is closed with the scope; its loss fails the next query, not the process. */
export const connected = (url: string) =>
  Effect.acquireRelease(
    Effect.tryPromise(async () => {
      const client = new Pg.Client({ connectionString: url })
      client.on("error", () => {})
      await client.connect()
      return client
    }),
    (client) => Effect.ignore(Effect.tryPromise(() => client.end()))
  )

/** Polls with SQL of its own, in which `$1` is the last position it has seen, through lost connections, until it is over. */
export const pollingReader = (
  url: string,
  sql: string,
  seen: Array<Seen>,
  isOver: () => boolean
): Effect.Effect<void, never> =>
  Effect.gen(function* () {
    const client = yield* connected(url)
    while (!isOver()) {
      const { rows } = yield* Effect.tryPromise(() => client.query(sql, [positionOf(seen)]))
      for (const { id, position } of rows) seen.push({ id, position: Number(position) })
      yield* Effect.sleep("1 millis")
    }
  }).pipe(
    Effect.scoped,
    Effect.retry({ schedule: Schedule.spaced("20 millis"), until: isOver }),
    // Over while the connection was lost.
    Effect.ignore
  )

/** Holds what a reader has seen against what is stored; nothing may differ. */
export const differences = (seen: ReadonlyArray<Seen>, stored: ReadonlyArray<Seen>) => {
  const found = new Map(seen.map(({ id, position }) => [id, position]))
  const positions = new Map(stored.map(({ id, position }) => [id, position]))
  return {
    lost: stored.filter(({ id }) => !found.has(id)).length,
    duplicated: seen.length - found.size,
    outOfOrder: seen.filter(({ position }, i) => i > 0 && position <= (seen[i - 1] as Seen).position).length,
    neverStored: seen.filter(({ id, position }) => positions.get(id) !== position).length
  }
}
