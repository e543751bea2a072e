/**
 * What is behind each endpoint of the API.
 */
import { HttpApiBuilder } from "@effect/platform"
import { Effect, Layer } from "effect"
import { Uuid } from "effect-stores"
import { Api, NotPdf } from "./api.js"
import { execute } from "./commands.js"
import { answered } from "./failures.js"
import * as feed from "./feed.js"
import * as invoices from "./invoices.js"
import type { Command } from "./order.js"
import { newest, view } from "./readModel.js"

const orders = HttpApiBuilder.group(Api, "orders", (handlers) =>
  handlers
    .handle("place", ({ headers, payload }) => {
      // From the key, so that a repeat is for the same order.
      const orderId = Uuid.derived(headers["idempotency-key"], ["order"])
      return run(headers, { _tag: "Place", orderId, ...payload })
    })
    .handle("addLine", ({ headers, path, payload }) => run(headers, { _tag: "AddLine", orderId: path.id, ...payload }))
    .handle("pay", ({ headers, path, payload }) => run(headers, { _tag: "Pay", orderId: path.id, ...payload }))
    .handle("ship", ({ headers, path, payload }) => run(headers, { _tag: "Ship", orderId: path.id, ...payload }))
    .handle("cancel", ({ headers, path, payload }) => run(headers, { _tag: "Cancel", orderId: path.id, ...payload }))
    .handleRaw("attachInvoice", ({ headers, path, request }) => {
      if (request.headers["content-type"] !== "application/pdf") return Effect.fail(new NotPdf())
      const size = request.headers["content-length"]
      const upload = { body: request.stream, size: size === undefined ? undefined : Number(size) }
      return invoices.attach(path.id, headers["idempotency-key"], upload).pipe(
        Effect.map(({ version }) => ({ orderId: path.id, version })),
        answered
      )
    })
    .handle("getInvoice", ({ path }) => answered(invoices.response(path.id)))
    .handle("get", ({ path }) => answered(view(path.id)))
    .handle("newest", () => answered(newest))
)

const run = (headers: { readonly "idempotency-key": string }, command: Command) =>
  execute(headers["idempotency-key"], command).pipe(
    Effect.map(({ version }) => ({ orderId: command.orderId, version })),
    answered
  )

const changes = HttpApiBuilder.group(Api, "changes", (handlers) =>
  handlers
    .handle("ofAll", ({ headers, urlParams }) => feed.response(headers["last-event-id"] ?? urlParams.after ?? 0))
    .handle("ofOne", ({ headers, path, urlParams }) =>
      Effect.zipRight(answered(view(path.id)), feed.response(headers["last-event-id"] ?? urlParams.after ?? 0, path.id))
    )
)

export const api = Layer.provide(HttpApiBuilder.api(Api), [orders, changes])
