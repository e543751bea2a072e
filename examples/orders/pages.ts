/**
 * Pages for people: the newest orders, and the history of one, which follows the feed. They need no script to be read.
 */
import { readFileSync } from "node:fs"
import { HttpApiBuilder, HttpRouter, HttpServerResponse } from "@effect/platform"
import { Chunk, DateTime, Effect, Schema, Stream } from "effect"
import { Aggregate, type CacheStore, type EventStore } from "effect-stores"
import { answered } from "./failures.js"
import { type Html, html } from "./html.js"
import { idOf, NotFound, Order, type OrderEvent, OrderId, type State } from "./order.js"
import { newest, type OrderView } from "./readModel.js"

/** Of a history, the newest. */
const eventsMax = 500

const index = Effect.map(newest, (orders) =>
  page(
    "Orders",
    html`<main>
      <h1>Orders</h1>
      ${orders.length === 0 ? html`<p>There are none yet.</p>` : html`<ul class="orders">${orders.map(listed)}</ul>`}
      <p><a href="/docs">The API</a></p>
    </main>`
  )
)

const listed = ({ customer, orderId, status, total }: OrderView): Html =>
  html`<li>
    <a href="/orders/${orderId}"><bdi>${customer}</bdi></a> ${badge(status)} <span class="money">${money(total)}</span>
  </li>`

const history = Effect.gen(function* () {
  const { id } = yield* HttpRouter.schemaPathParams(Schema.Struct({ id: OrderId }))
  // First the events, then the state: what comes in between is in the feed after the last of these events.
  const events = yield* Stream.runCollect(
    Order.events.read(Aggregate.streamId(Order, idOf(id)), { direction: "backward", limit: eventsMax })
  )
  const { state } = yield* Aggregate.load(Order, idOf(id))
  const last = Chunk.head(events)
  if (last._tag === "None") return yield* new NotFound({ what: `order ${id}` })
  return page(`Order of ${state.customer}`, ordered(id, state, Chunk.toReadonlyArray(events), last.value.position))
}).pipe(Effect.catchTag("ParseError", () => Effect.fail(new NotFound({ what: "order" }))))

type Event = EventStore.TypedEvent<OrderEvent>

/** The script replaces each element with `data-live` by its successor. */
const ordered = (
  id: string,
  { customer, invoice, lines, status, total }: State,
  events: ReadonlyArray<Event>,
  position: number
) =>
  html`<main data-changes="/api/orders/${id}/changes?after=${position}">
      <nav aria-label="Breadcrumb"><a href="/">Orders</a></nav>
      <header id="summary" data-live>
        <h1><bdi>${customer}</bdi> ${badge(status)}</h1>
        <p class="quiet">Order <code>${id}</code></p>
      </header>
      <section id="lines" data-live aria-labelledby="lines-title">
        <h2 id="lines-title">Lines</h2>
        ${lines.length === 0 ? html`<p class="quiet">None yet.</p>` : table(lines, total)}
        ${invoice === null ? "" : html`<p><a href="/api/orders/${id}/invoice" download>Invoice (PDF, ${size(invoice.bytes)})</a></p>`}
      </section>
      <section id="history" data-live aria-labelledby="history-title">
        <h2 id="history-title">History</h2>
        <ol reversed>${events.map(entry)}</ol>
        ${events.length < eventsMax ? "" : html`<p class="quiet">Older events are not shown.</p>`}
      </section>
      <p id="connection" class="quiet" role="status"></p>
      <script src="/assets/history.js" type="module"></script>
    </main>`

const table = (lines: State["lines"], total: number): Html =>
  html`<div class="scroll"><table>
    <thead><tr><th scope="col">Item</th><th scope="col">Quantity</th><th scope="col">Price</th></tr></thead>
    <tbody>${lines.map(
      ({ item, price, quantity }) =>
        html`<tr><td><bdi>${item}</bdi></td><td class="money">${quantity}</td><td class="money">${money(price)}</td></tr>`
    )}</tbody>
    <tfoot><tr><th scope="row" colspan="2">Total</th><td class="money">${money(total)}</td></tr></tfoot>
  </table></div>`

const entry = ({ createdAt, data, version }: Event): Html =>
  html`<li value="${version}">
    <p><strong>${titles[data._tag]}</strong>${detail(data)}</p>
    <p class="quiet"><time datetime="${DateTime.formatIso(createdAt)}">${shown(createdAt)}</time></p>
  </li>`

const titles: { readonly [Tag in OrderEvent["_tag"]]: string } = {
  Placed: "Placed",
  LineAdded: "Line added",
  Paid: "Paid",
  InvoiceAttached: "Invoice attached",
  Shipped: "Shipped",
  Cancelled: "Cancelled"
}

const detail = (event: OrderEvent): Html => {
  switch (event._tag) {
    case "Placed":
      return html` by <bdi>${event.customer}</bdi>`
    case "LineAdded":
      return html`: ${event.quantity} × <bdi>${event.item}</bdi> at ${money(event.price)}`
    case "Paid":
      return html`: ${money(event.amount)}`
    case "InvoiceAttached":
      return html`: ${size(event.bytes)}`
    case "Shipped":
      return html` with <bdi>${event.carrier}</bdi>`
    case "Cancelled":
      return html`: <bdi>${event.reason}</bdi>`
  }
}

const badge = (status: string): Html => html`<span class="badge ${status}">${status}</span>`

const euros = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" })
const money = (cents: number): string => euros.format(cents / 100)

const size = (bytes: number): string =>
  bytes < 1024
    ? `${bytes} bytes`
    : bytes < 2 ** 20
      ? `${Math.round(bytes / 1024)} KiB`
      : `${(bytes / 2 ** 20).toFixed(1)} MiB`

const shown = (at: DateTime.Utc): string => DateTime.formatIso(at).replace("T", " ").slice(0, 19).concat(" UTC")

const page = (title: string, content: Html, status = 200): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(
    html`<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>${title}</title>
    <link rel="stylesheet" href="/assets/history.css">
    <link rel="icon" href="data:,">
  </head>
  <body>
    ${content}
  </body>
</html>
`.text,
    {
      status,
      contentType: "text/html; charset=utf-8",
      headers: {
        "cache-control": "no-store",
        // Nothing but this server's own files is loaded, should any text ever get through as HTML.
        "content-security-policy":
          "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "referrer-policy": "same-origin"
      }
    }
  )

const sentence = (title: string, text: string, status: number) =>
  Effect.succeed(page(title, html`<main><h1>${title}</h1><p>${text}</p><p><a href="/">Orders</a></p></main>`, status))

const shownOr = <E, R>(effect: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>) =>
  Effect.catchAll(answered(effect), (error) =>
    error instanceof NotFound
      ? sentence("Not found", "There is no such order.", 404)
      : sentence("Not available", "Please try again in a moment.", 503)
  )

const asset = (name: string, contentType: string) =>
  HttpServerResponse.text(readFileSync(new URL(`./page/${name}`, import.meta.url), "utf8"), {
    contentType,
    headers: { "cache-control": "no-cache" }
  })

export const pages = HttpApiBuilder.Router.use((router) =>
  Effect.gen(function* () {
    const stores = yield* Effect.context<CacheStore.CacheStore | EventStore.EventStore>()
    yield* router.get("/", Effect.provide(shownOr(index), stores))
    yield* router.get("/orders/:id", Effect.provide(shownOr(history), stores))
    yield* router.get("/assets/history.css", asset("history.css", "text/css; charset=utf-8"))
    yield* router.get("/assets/history.js", asset("history.js", "text/javascript; charset=utf-8"))
  })
)
