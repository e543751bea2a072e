/**
 * What workers have in common: the store that their environment names, the events they append, and a line on standard
 * output for each thing that happened. What the lines mean to the parent is in `history.ts`.
 */
import { Effect, Layer, Logger, Redacted, Schedule } from "effect"
import { Errors, type EventStore } from "effect-stores"
import { type Line, payloadOf } from "./history.js"
import { say } from "./say.js"

const { WORKER_PG_URL, WORKER_SQLITE_FILE } = process.env

/** The store, with logs on standard error: standard output is for reports. */
export const storeLayer = async (): Promise<Layer.Layer<EventStore.EventStore, unknown>> =>
  Layer.provideMerge(
    await backendLayer(),
    Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))
  )

/** Only the driver that is used is loaded: start-up is most of a short worker's life. */
const backendLayer = async (): Promise<Layer.Layer<EventStore.EventStore, unknown>> => {
  if (WORKER_SQLITE_FILE !== undefined) {
    const { EventStoreSqlite } = await import("effect-stores/sqlite")
    return EventStoreSqlite.layer({ filename: WORKER_SQLITE_FILE })
  }
  const { EventStorePg } = await import("effect-stores/pg")
  return EventStorePg.layer({ url: Redacted.make(WORKER_PG_URL ?? ""), applicationName: "worker" })
}

export const report = (line: Line): void => say(line)

export const streamOf = (aggregateId: string): EventStore.StreamId => ({ tenantId: "t", domain: "d", aggregateId })

/** One stream's share of a batch; `batch` and `size` are of the batch as a whole, over all its streams. */
export const share = (ids: ReadonlyArray<string>, batch: string, size: number): ReadonlyArray<EventStore.NewEvent> =>
  ids.map((id, place) => ({ id, type: "Happened", data: payloadOf(id), metadata: { batch, size, place } }))

export const newIds = (count: number): ReadonlyArray<string> => Array.from({ length: count }, () => crypto.randomUUID())

/** Goes on for as long as the same call, which must be idempotent, may succeed later. */
export const persist = <A, E extends object, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.retry(effect, {
    while: Errors.isRepeatable,
    schedule: Schedule.spaced("20 millis")
  })
