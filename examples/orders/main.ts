/**
 * Starts the service: `npx tsx --conditions=source examples/orders/main.ts`. README.md beside this file says how to use
 * it, and how to run it on other stores.
 */
import { mkdirSync } from "node:fs"
import { HttpApiBuilder, HttpMiddleware, HttpServer } from "@effect/platform"
import { NodeRuntime } from "@effect/platform-node"
import { ConfigProvider, Layer } from "effect"
import { Stores } from "effect-stores/stores"
import { app } from "./app.js"
import * as Server from "./server.js"
import * as Telemetry from "./telemetry.js"

const folder = process.env.ORDERS_FOLDER || "orders-data"

/** Without any setting all is kept in one folder: events, commands, snapshots and cache in a file, invoices beside it. */
const defaults = {
  EVENT_STORE: "sqlite",
  COMMAND_STORE: "sqlite",
  SNAPSHOT_STORE: "sqlite",
  CACHE_STORE: "sqlite",
  SQLITE_FILENAME: `${folder}/orders.db`,
  DATA_STORE: "fs",
  FS_ROOT: `${folder}/invoices`
}

/** The environment goes before the defaults. An empty variable is an absent one. */
const given = Object.entries(process.env).filter(([, value]) => value !== undefined && value !== "")
const settings = new Map([...Object.entries(defaults), ...(given as ReadonlyArray<[string, string]>)])

if (settings.get("SQLITE_FILENAME") === defaults.SQLITE_FILENAME) mkdirSync(folder, { recursive: true })

const service = HttpApiBuilder.serve((routes) => HttpMiddleware.logger(Server.middleware(routes))).pipe(
  HttpServer.withLogAddress,
  Layer.provide(app),
  Layer.provide(Server.layer),
  // Provided after the server, so that they are closed after it: requests under way still need them.
  Layer.provide(Stores.layer({ durable: true })),
  Layer.provide(Telemetry.layer),
  Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(settings, { pathDelim: "_" })))
)

NodeRuntime.runMain(Layer.launch(service))
