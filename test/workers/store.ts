/**
 * What workers have in common: the store that their environment names, and a line on standard output for each thing
 * that happened. Standard output is a pipe that is written synchronously, so a line is out before the next thing begins.
 */
import { writeSync } from "node:fs"
import { type Layer, Redacted } from "effect"
import type { EventStore } from "effect-stores"

const { WORKER_PG_URL, WORKER_SQLITE_FILE } = process.env

/** Only the driver that is used is loaded: start-up is most of a short worker's life. */
export const storeLayer = async (): Promise<Layer.Layer<EventStore.EventStore, unknown>> => {
  if (WORKER_SQLITE_FILE !== undefined) {
    const { EventStoreSqlite } = await import("effect-stores/sqlite")
    return EventStoreSqlite.layer({ filename: WORKER_SQLITE_FILE, pool: { acquireTimeout: "60 seconds" } })
  }
  const { EventStorePg } = await import("effect-stores/pg")
  return EventStorePg.layer({ url: Redacted.make(WORKER_PG_URL ?? ""), applicationName: "worker" })
}

export const report = (line: Record<string, unknown>): void => {
  writeSync(1, `${JSON.stringify(line)}\n`)
}
