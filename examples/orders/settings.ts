/**
 * The settings of the service: those of the environment before its own.
 */
import { ConfigProvider } from "effect"

/** Without any setting all is kept in one folder: events, commands, snapshots and cache in a file, invoices beside it. */
const defaultsIn = (folder: string) => ({
  EVENT_STORE: "sqlite",
  // Events tell which request they come from: see telemetry.ts.
  EVENT_STORE_TRACEPARENT: "true",
  COMMAND_STORE: "sqlite",
  SNAPSHOT_STORE: "sqlite",
  CACHE_STORE: "sqlite",
  SQLITE_FILENAME: `${folder}/orders.db`,
  DATA_STORE: "fs",
  FS_ROOT: `${folder}/invoices`
})

export interface Settings {
  readonly folder: string
  readonly config: ConfigProvider.ConfigProvider
}

/** An empty variable is an absent one. */
export const settings = (environment: Readonly<Record<string, string | undefined>>): Settings => {
  const given = Object.entries(environment).flatMap(([name, value]) => (value ? [[name, value] as const] : []))
  const folder = environment.ORDERS_FOLDER || "orders-data"
  const all = new Map([...Object.entries(defaultsIn(folder)), ...given])
  return { folder, config: ConfigProvider.fromMap(all, { pathDelim: "_" }) }
}
