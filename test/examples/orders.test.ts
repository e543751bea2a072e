/**
 * examples/orders in this process: its routes on stores in memory, driven by the client that is made from its API.
 */
import { FetchHttpClient, HttpApiBuilder, HttpApiClient, HttpServer } from "@effect/platform"
import { Effect, Either, Layer, ManagedRuntime, Option, Stream } from "effect"
import { Aggregate, CacheStore, DataStore, EventStore } from "effect-stores"
import { CheckpointStoreMemory } from "effect-stores/memory"
import { StoresTest } from "effect-stores/stores"
import { afterAll, describe, expect, it } from "vitest"
import { Api } from "../../examples/orders/api.js"
import { app } from "../../examples/orders/app.js"
import { bytesMax } from "../../examples/orders/invoices.js"
import { idOf, Order } from "../../examples/orders/order.js"
import { following } from "../../examples/orders/readModel.js"
import { Stopping } from "../../examples/orders/server.js"
import { ServerSentEvents } from "./sse.js"

const stores = ManagedRuntime.make(Layer.merge(StoresTest.layer, CheckpointStoreMemory.layer()))
const { context } = await stores.runtime()

const { dispose, handler } = HttpApiBuilder.toWebHandler(
  Layer.merge(app, following).pipe(
    Layer.provide([Layer.succeedContext(context), Stopping.never]),
    Layer.merge(HttpServer.layerContext)
  )
)

afterAll(async () => {
  await dispose()
  await stores.dispose()
})

const base = "http://orders.test"
const ask = (path: string, init?: RequestInit) => handler(new Request(base + path, init))

/** No socket: requests go to the handler. */
const client = await HttpApiClient.make(Api, { baseUrl: base }).pipe(
  Effect.provide(FetchHttpClient.layer),
  Effect.provideService(FetchHttpClient.Fetch, (input, init) => handler(new Request(input, init))),
  Effect.runPromise
)

const run = <A, E>(effect: Effect.Effect<A, E>): Promise<A> => Effect.runPromise(effect)

const inStores = <A, E>(
  effect: Effect.Effect<A, E, EventStore.EventStore | DataStore.DataStore | CacheStore.CacheStore>
) => stores.runPromise(effect)

/** What a request fails with. */
const failure = async <A, E>(effect: Effect.Effect<A, E>): Promise<E> => {
  const outcome = await run(Effect.either(effect))
  return Either.isLeft(outcome) ? outcome.left : expect.fail(`succeeded with ${JSON.stringify(outcome.right)}`)
}

const key = (): { readonly "idempotency-key": string } => ({ "idempotency-key": crypto.randomUUID() })

const { changes, orders } = client

const placed = async (customer = "Ann"): Promise<{ readonly id: string }> => {
  const { orderId } = await run(orders.place({ headers: key(), payload: { customer } }))
  return { id: orderId }
}

const lamp = { item: "lamp", quantity: 2, price: 1250 }

const versionOf = (id: string) =>
  inStores(Effect.flatMap(EventStore.EventStore, (store) => store.version(Aggregate.streamId(Order, idOf(id)))))

describe("an order", () => {
  it("goes its way, and each response is seen by the next read", async () => {
    const path = await placed("Zoë")
    expect(await run(orders.get({ path }))).toMatchObject({ version: 1, status: "placed", customer: "Zoë", total: 0 })
    await run(orders.addLine({ path, headers: key(), payload: lamp }))
    expect(await run(orders.get({ path }))).toMatchObject({ version: 2, lines: [lamp], total: 2500 })
    await run(orders.pay({ path, headers: key(), payload: { amount: 2500 } }))
    await run(orders.attachInvoice({ path, headers: key(), payload: pdf }))
    const done = await run(orders.ship({ path, headers: key(), payload: { carrier: "bike" } }))
    expect(done).toEqual({ orderId: path.id, version: 5 })
    const shown = await run(orders.get({ path }))
    expect(shown).toMatchObject({ version: 5, status: "shipped", invoice: { bytes: pdf.byteLength } })
    expect((await run(orders.newest({})))[0]).toEqual(shown)
  })

  it("is changed once by a command, however often it is sent, and a key is for one command", async () => {
    const headers = key()
    const [first, second] = await Promise.all(
      [1, 2].map(() => run(orders.place({ headers, payload: { customer: "Ann" } })))
    )
    expect(second).toEqual(first)
    const path = { id: first?.orderId ?? "" }
    const line = { path, headers: key(), payload: lamp }
    const added = await Promise.all([1, 2, 3].map(() => run(orders.addLine(line))))
    expect(added).toEqual([1, 2, 3].map(() => ({ orderId: path.id, version: 2 })))
    expect(await versionOf(path.id)).toBe(2)
    expect(await failure(orders.addLine({ ...line, payload: { ...lamp, quantity: 3 } }))).toMatchObject({
      _tag: "Refused",
      why: expect.stringContaining("idempotency key")
    })
    // Also a refusal is an outcome: what makes it possible now does not change what was answered.
    const pay = { path, headers: key(), payload: { amount: 5000 } }
    expect(await failure(orders.pay(pay))).toMatchObject({ _tag: "Refused", why: "the total is 2500" })
    await run(orders.addLine({ ...line, headers: key() }))
    expect(await failure(orders.pay(pay))).toMatchObject({ _tag: "Refused", why: "the total is 2500" })
    await run(orders.pay({ ...pay, headers: key() }))
  })

  it("takes all of many commands at once, and refuses with 409 what was decided on another version", async () => {
    const path = await placed()
    await Promise.all([1, 2, 3, 4, 5].map(() => run(orders.addLine({ path, headers: key(), payload: lamp }))))
    expect(await run(orders.get({ path }))).toMatchObject({ version: 6, total: 12_500 })
    const late = { path, headers: key(), payload: { reason: "late", expectedVersion: 5 } }
    expect(await failure(orders.cancel(late))).toMatchObject({ _tag: "Conflict", expected: 5, actual: 6 })
    await run(orders.cancel({ path, headers: key(), payload: { reason: "late", expectedVersion: 6 } }))
    expect(await run(orders.get({ path }))).toMatchObject({ version: 7, status: "cancelled" })
  })

  it("is read from a snapshot when it is long", async () => {
    const path = await placed()
    for (let i = 0; i < 25; i++) await run(orders.addLine({ path, headers: key(), payload: lamp }))
    const loaded = await inStores(Aggregate.load(Order, idOf(path.id)))
    expect(loaded.version).toBe(26)
    expect(loaded.replayed).toBeLessThan(26)
  })

  it("is refused by name and status where it cannot be done", async () => {
    const nobody = { id: crypto.randomUUID() }
    expect(await failure(orders.get({ path: nobody }))).toMatchObject({ _tag: "NotFound" })
    expect(await failure(orders.addLine({ path: nobody, headers: key(), payload: lamp }))).toMatchObject({
      _tag: "NotFound"
    })
    const path = await placed()
    expect(await failure(orders.ship({ path, headers: key(), payload: { carrier: "bike" } }))).toMatchObject({
      _tag: "Refused",
      why: "it is placed"
    })
    expect(await failure(orders.getInvoice({ path }))).toMatchObject({ _tag: "NotFound" })

    const post = (body: string, headers: Record<string, string> = key()) =>
      ask(`/api/orders/${path.id}/lines`, {
        method: "POST",
        body,
        headers: { "content-type": "application/json", ...headers }
      })
    const statuses = await Promise.all([
      post(JSON.stringify(lamp), {}),
      post(JSON.stringify(lamp), { "idempotency-key": "nonsense" }),
      post('{"item":'),
      post(JSON.stringify({ ...lamp, quantity: 0 })),
      post(JSON.stringify({ ...lamp, item: "x".repeat(201) })),
      ask("/api/orders/nonsense"),
      ask("/nonsense")
    ])
    expect(statuses.map(({ status }) => status)).toEqual([400, 400, 400, 400, 400, 400, 404])
    expect(await versionOf(path.id)).toBe(1)
  })
})

const pdf = new TextEncoder().encode("%PDF-1.7 an invoice")

const objectsOf = (id: string) =>
  inStores(Effect.flatMap(DataStore.DataStore, (store) => store.count("invoices", { prefix: `${id}/` })))

describe("an invoice", () => {
  it("is read as it was sent, as a file to save", async () => {
    const path = await placed()
    await run(orders.attachInvoice({ path, headers: key(), payload: pdf }))
    expect(await run(orders.getInvoice({ path }))).toEqual(pdf)
    const { headers } = await ask(`/api/orders/${path.id}/invoice`)
    expect(headers.get("content-type")).toBe("application/pdf")
    expect(headers.get("content-disposition")).toMatch(/^attachment/)
    expect(headers.get("content-length")).toBe(String(pdf.byteLength))
  })

  it("that the store has lost is the server's failure, and not an empty file", async () => {
    const path = await placed()
    await run(orders.attachInvoice({ path, headers: key(), payload: pdf }))
    const { state } = await inStores(Aggregate.load(Order, idOf(path.id)))
    const object = { bucket: "invoices", name: state.invoice?.object ?? "" }
    expect(await inStores(Effect.flatMap(DataStore.DataStore, (store) => store.delete(object)))).toBe(true)
    expect(await failure(orders.getInvoice({ path }))).toMatchObject({ _tag: "Failed" })
  })

  it("that is sent again is one object, and another one under its key is refused and leaves none", async () => {
    const path = await placed()
    const request = { path, headers: key(), payload: pdf }
    const sent = await Promise.all([1, 2, 3].map(() => run(orders.attachInvoice(request))))
    expect(sent).toEqual([1, 2, 3].map(() => ({ orderId: path.id, version: 2 })))
    expect(await failure(orders.attachInvoice({ ...request, payload: pdf.slice(1) }))).toMatchObject({
      _tag: "Refused"
    })
    expect(await objectsOf(path.id)).toBe(1)
    expect(await run(orders.getInvoice({ path }))).toEqual(pdf)

    await run(orders.cancel({ path, headers: key(), payload: { reason: "none" } }))
    expect(await failure(orders.attachInvoice({ ...request, headers: key() }))).toMatchObject({ _tag: "Refused" })
    expect(await objectsOf(path.id)).toBe(1)
  })

  it("that is too large, no PDF, empty or for nobody is refused, and nothing is stored", async () => {
    const path = await placed()
    const put = (body: NonNullable<RequestInit["body"]>, headers: Record<string, string>, id = path.id) =>
      ask(`/api/orders/${id}/invoice`, {
        method: "PUT",
        body,
        headers: { ...key(), ...headers },
        duplex: "half"
      } as RequestInit)
    const isPdf = { "content-type": "application/pdf" }
    const pieces = (bytes: number) =>
      Stream.toReadableStream(Stream.take(Stream.repeatValue(new Uint8Array(2 ** 20)), Math.ceil(bytes / 2 ** 20)))
    const answers = await Promise.all([
      put(pieces(bytesMax + 1), isPdf),
      put(pdf, { ...isPdf, "content-length": String(bytesMax + 1) }),
      put(pdf, { "content-type": "text/html" }),
      put(pieces(0), isPdf),
      put(pdf, isPdf, crypto.randomUUID())
    ])
    expect(answers.map(({ status }) => status)).toEqual([413, 413, 415, 422, 404])
    expect(await objectsOf(path.id)).toBe(0)
    expect(await versionOf(path.id)).toBe(1)
  })
})

describe("the feed", () => {
  it("has what was, then what comes, and goes on after the last id", async () => {
    const path = await placed()
    const first = await ServerSentEvents.of(await ask(`/api/orders/${path.id}/changes`))
    await run(orders.addLine({ path, headers: key(), payload: lamp }))
    const two = await first.take(2)
    expect(two.map(({ data }) => data)).toMatchObject([
      { orderId: path.id, version: 1, type: "Placed", data: { customer: "Ann" } },
      { orderId: path.id, version: 2, type: "LineAdded", data: lamp }
    ])
    await first.cancel()
    await run(orders.attachInvoice({ path, headers: key(), payload: pdf }))
    await placed("somebody else")
    await run(orders.cancel({ path, headers: key(), payload: { reason: "none" } }))
    // What an EventSource says when it connects again goes before the address that it was made with.
    const headers = { "last-event-id": two[1]?.id ?? "" }
    const second = await ServerSentEvents.of(await ask(`/api/orders/${path.id}/changes?after=0`, { headers }))
    const rest = await second.take(2)
    expect(rest.map(({ data }) => [data.version, data.type])).toEqual([
      [3, "InvoiceAttached"],
      [4, "Cancelled"]
    ])
    expect(JSON.stringify(rest)).not.toContain(`"object"`)
    await second.cancel()
  })

  it("of nobody is 404, and a position that is none 400", async () => {
    const path = await placed()
    const statuses = await Promise.all(
      [`/api/orders/${crypto.randomUUID()}/changes`, `/api/orders/${path.id}/changes?after=-1`].map((at) => ask(at))
    )
    expect(statuses.map(({ status }) => status)).toEqual([404, 400])
    expect(
      await failure(changes.ofOne({ path: { id: crypto.randomUUID() }, headers: {}, urlParams: {} }))
    ).toMatchObject({ _tag: "NotFound" })
  })
})

describe("the cache", () => {
  it("forgets what other processes have changed", async () => {
    const path = await placed()
    expect(await run(orders.get({ path }))).toMatchObject({ version: 1 })
    await run(orders.newest({}))
    await inStores(Aggregate.append(Order, idOf(path.id), [{ _tag: "Cancelled", reason: "by phone" }], { expected: 1 }))
    await expect.poll(async () => (await run(orders.get({ path }))).status, { timeout: 600_000 }).toBe("cancelled")
    await expect
      .poll(async () => (await run(orders.newest({}))).find(({ orderId }) => orderId === path.id)?.status, {
        timeout: 600_000
      })
      .toBe("cancelled")
  })

  it("is asked before the events", async () => {
    const path = await placed()
    await run(orders.get({ path }))
    const cached = await inStores(
      Effect.flatMap(CacheStore.CacheStore, (cache) => cache.get("shop", `order/${path.id}`))
    )
    expect(Option.getOrThrow(cached)).toMatchObject({ version: 1, customer: "Ann" })
  })
})

describe("the pages", () => {
  it("show a history, and a hostile name as the text it is", async () => {
    const hostile = `<script>alert("1")</script><img src=x onerror='alert(2)'> & \u202eevil`
    const path = await placed(hostile)
    await run(orders.addLine({ path, headers: key(), payload: { ...lamp, item: `"><svg onload=alert(3)>` } }))
    await run(orders.cancel({ path, headers: key(), payload: { reason: "</li></ol><script>alert(4)</script>" } }))
    for (const at of [`/orders/${path.id}`, "/"]) {
      const page = await ask(at)
      expect(page.status).toBe(200)
      expect(page.headers.get("content-security-policy")).toContain("script-src 'self'")
      const text = await page.text()
      expect(text).toContain("&#60;script&#62;alert(&#34;1&#34;)")
      expect(text.match(/<(script|img|svg)[ >][^>]*/g) ?? []).toEqual(
        at === "/" ? [] : [`<script src="/assets/history.js" type="module"`]
      )
    }
    const text = await (await ask(`/orders/${path.id}`)).text()
    expect(text.match(/<li value="\d+"/g)).toEqual([3, 2, 1].map((version) => `<li value="${version}"`))
  })

  it("of no order say so with 404", async () => {
    const pages = await Promise.all([`/orders/${crypto.randomUUID()}`, "/orders/nonsense"].map((at) => ask(at)))
    expect(pages.map(({ status }) => status)).toEqual([404, 404])
    expect(await pages[0]?.text()).toContain("There is no such order.")
  })
})

describe("the probe", () => {
  it("is told of each store", async () => {
    const answer = await ask("/health")
    expect(answer.status).toBe(200)
    expect(await answer.json()).toEqual(
      Object.fromEntries(["event", "command", "snapshot", "cache", "data"].map((store) => [`${store}Store`, "up"]))
    )
  })
})

describe("the documents", () => {
  it("of the API name every route, its errors and its key", async () => {
    const spec = (await (await ask("/openapi.json")).json()) as {
      readonly paths: Record<string, Record<string, { readonly responses: object; readonly parameters?: unknown }>>
    }
    expect(Object.keys(spec.paths).sort()).toEqual([
      "/api/changes",
      "/api/orders",
      "/api/orders/{id}",
      "/api/orders/{id}/cancellation",
      "/api/orders/{id}/changes",
      "/api/orders/{id}/invoice",
      "/api/orders/{id}/lines",
      "/api/orders/{id}/payment",
      "/api/orders/{id}/shipment"
    ])
    const invoice = spec.paths["/api/orders/{id}/invoice"]?.put
    expect(Object.keys(invoice?.responses ?? {})).toEqual([
      "200",
      "400",
      "404",
      "409",
      "413",
      "415",
      "422",
      "500",
      "503"
    ])
    expect(JSON.stringify(invoice?.parameters)).toContain("idempotency-key")
    expect((await ask("/docs")).status).toBe(200)
  })
})
