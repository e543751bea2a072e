/**
 * The HTTP server, how it stops, and what holds for every request and response.
 */
import { createServer } from "node:http"
import { HttpApp, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Config, Context, Deferred, Duration, Effect, Layer, Option } from "effect"

/** Completed when the server stops: what would go on for ever ends then. */
export class Stopping extends Context.Tag("orders/Stopping")<Stopping, { readonly signal: Effect.Effect<void> }>() {
  /** For tests without a server. */
  static readonly never = Layer.succeed(Stopping, { signal: Effect.never })
}

/** Less than orchestrators wait before they kill: 30 seconds, as a rule. */
const drainDefault = "20 seconds"

/**
 * When its scope is closed:
 *
 * 1. No new connections are accepted, and `Stopping` ends the feeds. A request on a connection that is open already is
 *    told to come again (503).
 * 2. Requests under way are finished. What takes longer than `DRAIN_TIMEOUT` is cut off.
 */
export const layer = Layer.unwrapEffect(
  Effect.gen(function* () {
    const host = yield* Config.withDefault(Config.string("HOST"), "127.0.0.1")
    const port = yield* Config.withDefault(Config.port("PORT"), 3000)
    const drain = yield* Config.withDefault(Config.duration("DRAIN_TIMEOUT"), Duration.decode(drainDefault))
    const server = createServer()
    server.on("request", (_, response) => {
      // Before the application listens, and once it has stopped, nobody else would answer.
      if (server.listenerCount("request") === 1) {
        response.writeHead(503, { connection: "close", "retry-after": "1" }).end()
      }
    })
    const stopping = Layer.scoped(
      Stopping,
      Effect.gen(function* () {
        const signal = yield* Deferred.make<void>()
        yield* Effect.addFinalizer(() =>
          Effect.suspend(() => {
            setTimeout(() => server.closeAllConnections(), Duration.toMillis(drain)).unref()
            return Deferred.succeed(signal, undefined)
          })
        )
        return { signal: Deferred.await(signal) }
      })
    )
    return Layer.provideMerge(
      stopping,
      NodeHttpServer.layer(() => server, { host, port })
    )
  })
)

/** Of a body that is read as a whole. An invoice is streamed, and has a limit of its own. */
const bodyMax = 64 * 1024

/** What holds for all routes: the bound of bodies, and headers. */
export const middleware = <E, R>(routes: HttpApp.Default<E, R>): HttpApp.Default<E, R> =>
  HttpServerRequest.HttpServerRequest.pipe(
    Effect.flatMap(({ headers }) =>
      headers["content-type"] !== "application/pdf" && Number(headers["content-length"]) > bodyMax
        ? HttpServerResponse.empty({ status: 413 })
        : routes
    ),
    // Of a body whose length the client does not say. Then the connection is cut off.
    HttpServerRequest.withMaxBodySize(Option.some(bodyMax)),
    HttpApp.withPreResponseHandler((_, response) => Effect.succeed(withHeaders(response)))
  )

const withHeaders = (response: HttpServerResponse.HttpServerResponse) =>
  HttpServerResponse.setHeaders(response, {
    "x-content-type-options": "nosniff",
    ...(response.status === 503 && { "retry-after": "1" })
  })
