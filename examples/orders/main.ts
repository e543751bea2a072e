/**
 * Starts the service: `node --import tsx --conditions=source examples/orders/main.ts`. README.md beside this file says how to use
 * it, and how to run it on other stores.
 */
import { mkdirSync } from "node:fs"
import { HttpApiBuilder, HttpMiddleware, HttpServer } from "@effect/platform"
import { NodeRuntime } from "@effect/platform-node"
import { Layer } from "effect"
import { Stores } from "effect-stores/stores"
import { app } from "./app.js"
import { checkpoints } from "./checkpoints.js"
import { following } from "./readModel.js"
import * as Server from "./server.js"
import { settings } from "./settings.js"
import * as Telemetry from "./telemetry.js"

const { config, folder } = settings(process.env)
mkdirSync(folder, { recursive: true })

const service = HttpApiBuilder.serve((routes) => HttpMiddleware.logger(Server.middleware(routes))).pipe(
  HttpServer.withLogAddress,
  Layer.provide(app),
  Layer.provide(Server.layer),
  // Provided after the server, so that they are closed after it: requests under way still need them.
  Layer.provide(following),
  Layer.provide(checkpoints),
  Layer.provide(Stores.layer({ durable: true })),
  Layer.provide(Telemetry.layer),
  Layer.provide(Layer.setConfigProvider(config))
)

NodeRuntime.runMain(Layer.launch(service))
