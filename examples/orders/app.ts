/**
 * The whole application, but for its stores and its server: tests give it others.
 */
import { HttpApiBuilder, HttpApiSwagger } from "@effect/platform"
import { Layer } from "effect"
import { api } from "./handlers.js"
import { health } from "./health.js"
import * as invoices from "./invoices.js"
import { pages } from "./pages.js"

/** The routes. What they need beside the stores is `Stopping`, and that `following` of the read model goes on. */
export const app = Layer.mergeAll(
  Layer.provideMerge(Layer.mergeAll(HttpApiBuilder.middlewareOpenApi(), HttpApiSwagger.layer({ path: "/docs" })), api),
  pages,
  health,
  invoices.prepared
)
