/**
 * One request to an S3 server and its response: the only file that imports `minio`, and all that is wanted of it is the
 * signing and sending of a request. Everything above speaks of statuses and texts.
 *
 * The client knows neither how to give up nor how long to wait, and leaves the sockets of failed requests open; so the
 * transport underneath it is ours. Which request a call of the transport belongs to is known by AsyncLocalStorage.
 */
import { AsyncLocalStorage } from "node:async_hooks"
import { createHash } from "node:crypto"
import * as http from "node:http"
import * as https from "node:https"
import { setImmediate as nextTurn } from "node:timers/promises"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Client } from "minio"
import { hinted, lastingOf } from "../../internal/socketFailures.js"
import { PoolMeter } from "../../internal/telemetry.js"
import type { NodeTlsOptions } from "../../internal/tls.js"

export interface Settings {
  readonly endpoint: URL
  readonly accessKey: string
  readonly secretKey: string
  readonly sessionToken: string | undefined
  /** Of an endpoint that encrypts. */
  readonly tls: NodeTlsOptions | undefined
  readonly region: string
  readonly pathStyle: boolean
  /** How long the server may say nothing, in milliseconds. */
  readonly timeoutMs: number
  readonly maxFreeSockets: number
  readonly idleMs: number
}

export interface Request {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE"
  readonly bucket?: string
  readonly name?: string
  /** In the order given; a null value for a key alone. */
  readonly query?: Readonly<Record<string, string | null>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array
}

export interface Response {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
}

export interface TextResponse extends Response {
  readonly text: string
}

/** There was no response, or not all of it. `sent`: whether the server may have seen the request. */
export class NoAnswer {
  readonly _tag = "NoAnswer"
  constructor(
    readonly sent: boolean,
    readonly cause: Error,
    /** It stays so for as long as nobody changes the settings. */
    readonly lasting = false
  ) {}
}

export interface Download extends Response {
  /** The next bytes; null at the end of the body. */
  readonly next: Effect.Effect<Uint8Array | null, NoAnswer>
}

export interface S3Client {
  readonly send: (request: Request) => Effect.Effect<TextResponse, NoAnswer>
  /** A response whose body is read while the scope is open; what is not read by then is thrown away. */
  readonly download: (request: Request) => Effect.Effect<Download, NoAnswer, Scope.Scope>
  readonly presign: (
    method: "GET" | "PUT",
    bucket: string,
    name: string,
    seconds: number,
    endpoint: URL
  ) => Effect.Effect<string, NoAnswer>
}

const empty = new Uint8Array()

/** How often the sockets are counted. */
const meterEveryMs = 1_000

interface Call {
  readonly signal: AbortSignal
  response: http.IncomingMessage | undefined
  request: http.ClientRequest | undefined
}

/** No response of ours is larger: a page of 1,000 long names, escaped. */
const textBytesMax = 32 * 2 ** 20

/** Takes 2 ms; a part as a whole would hold the event loop for 20. */
const hashedAtOnceBytes = 2 ** 20

const sha256Of = async (body: Uint8Array): Promise<string> => {
  const hash = createHash("sha256")
  for (let at = 0; at < body.byteLength; at += hashedAtOnceBytes) {
    if (at > 0) await nextTurn()
    hash.update(body.subarray(at, at + hashedAtOnceBytes))
  }
  return hash.digest("hex")
}

/** All are looked at above; what the client finds unexpected it would only turn into an error of its own. */
const statuses = Array.from({ length: 500 }, (_, i) => 100 + i)

const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)

const queryOf = (query: Request["query"]): string =>
  Object.entries(query ?? {})
    .map(([key, value]) => (value === null ? key : `${key}=${encode(value)}`))
    .sort()
    .join("&")

/** Refused before anything was sent. */
const unsent = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT_CONNECT"])

/** What OpenSSL says when the two sides do not come to terms, so that no request counts. */
const unmet = /wrong version number|alert (handshake failure|protocol version|unknown ca|[a-z ]*certificate)/

/** What is found wrong before a request counts, and remains so. Other codes may come in the middle as well. */
const isOfHandshake = (code: string, { message }: Error): boolean =>
  code === "ERR_TLS_CERT_ALTNAME_INVALID" ||
  (lastingOf(code) === "final" && (unmet.test(message) || !/^(E[A-Z]+$|EAI_|ERR_)/.test(code)))

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)))

const socketsOf = ({ freeSockets, sockets }: http.Agent): { readonly open: number; readonly idle: number } => {
  const count = (all: NodeJS.ReadOnlyDict<ReadonlyArray<unknown>>) =>
    Object.values(all).reduce((sum, each) => sum + (each?.length ?? 0), 0)
  const idle = count(freeSockets)
  return { open: count(sockets) + idle, idle }
}

export const make = (settings: Settings): Effect.Effect<S3Client, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { endpoint, timeoutMs } = settings
    const secure = endpoint.protocol === "https:"
    const library = secure ? https : http
    const agent = yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new library.Agent({
            ...settings.tls,
            keepAlive: true,
            maxFreeSockets: settings.maxFreeSockets,
            timeout: settings.idleMs,
            // The socket used last: the others may become idle long enough to be closed.
            scheduling: "lifo"
          })
      ),
      (agent) => Effect.sync(() => agent.destroy())
    )
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const meter = new PoolMeter("minio.DataStore", endpoint.origin, false)
        return { meter, timer: setInterval(() => meter.report(socketsOf(agent)), meterEveryMs).unref() }
      }),
      ({ meter, timer }) =>
        Effect.sync(() => {
          clearInterval(timer)
          meter.report({ open: 0, idle: 0 })
        })
    )
    const calls = new AsyncLocalStorage<Call>()

    const silent = (): Error =>
      Object.assign(new Error(`the server said nothing for ${timeoutMs} ms`), { code: "ETIMEDOUT" })

    const unconnected = (): Error =>
      Object.assign(new Error(`there was no connection for ${timeoutMs} ms`), { code: "ETIMEDOUT_CONNECT" })

    const transport = {
      request: (options: http.RequestOptions, callback: (response: http.IncomingMessage) => void) => {
        const call = calls.getStore()
        const request = library.request(
          { ...options, agent, ...(call === undefined ? {} : { signal: call.signal }) },
          (response) => {
            request.setTimeout(0)
            // What fails it when nobody reads must not end the process.
            response.on("error", () => {})
            if (call !== undefined) call.response = response
            callback(response)
          }
        )
        if (call !== undefined) call.request = request
        request.setTimeout(timeoutMs, () => request.destroy(request.socket?.connecting ? unconnected() : silent()))
        // While it is being connected a socket has the time that the agent gives an idle one.
        request.once("socket", (socket) => socket.setTimeout(timeoutMs))
        return request
      }
    }

    const clientAt = (url: URL): Client =>
      new Client({
        endPoint: url.hostname.replace(/^\[(.*)\]$/, "$1"),
        port: url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port),
        useSSL: url.protocol === "https:",
        accessKey: settings.accessKey,
        secretKey: settings.secretKey,
        ...(settings.sessionToken === undefined ? {} : { sessionToken: settings.sessionToken }),
        // Without it there is another request for each bucket, and again after each error.
        region: settings.region,
        pathStyle: settings.pathStyle,
        // Of the module's many overloads the client calls this one.
        transport: transport as unknown as typeof http,
        transportAgent: agent,
        retryOptions: { disableRetry: true }
      })
    const client = clientAt(endpoint)

    /** Waits for the head of the response, whatever its status. */
    const respond = async ({ body, bucket, headers, method, name, query }: Request, signal: AbortSignal) => {
      const call: Call = { signal, response: undefined, request: undefined }
      const payload = body === undefined ? "" : Buffer.from(body.buffer, body.byteOffset, body.byteLength)
      const options = {
        method,
        headers:
          method === "GET" || method === "HEAD"
            ? { ...headers }
            : { ...headers, "content-length": `${payload.length}` },
        query: queryOf(query),
        ...(bucket === undefined ? {} : { bucketName: bucket }),
        ...(name === undefined ? {} : { objectName: name })
      }
      // The client signs the digest of a body that is not encrypted on its way.
      const digest = secure ? "" : await sha256Of(body ?? empty)
      try {
        await calls.run(call, () => client.makeRequestStreamAsync(options, payload, digest, statuses, settings.region))
      } catch (error) {
        // Of statuses that it might repeat the client makes an error of its own.
        if (call.response === undefined) {
          const cause = asError(error)
          const code = "code" in cause ? String(cause.code) : ""
          const lasting = isOfHandshake(code, cause)
          const sent = call.request !== undefined && !unsent.has(code) && !lasting
          throw new NoAnswer(sent, hinted(cause, "tls.caFile", "MINIO_TLS_CA_FILE"), lasting)
        }
      }
      if (call.response === undefined) throw new NoAnswer(true, new Error("there was no response"))
      return call.response
    }

    const noAnswer = (error: unknown): NoAnswer =>
      error instanceof NoAnswer ? error : new NoAnswer(true, asError(error))

    return {
      send: (request) =>
        Effect.tryPromise({
          try: async (signal) => {
            const response = await respond(request, signal)
            const stop = new AbortController()
            const abort = () => stop.abort()
            signal.addEventListener("abort", abort)
            try {
              let text = ""
              for (;;) {
                const bytes = await chunkOf(response, timeoutMs, silent, stop.signal)
                if (bytes === null) break
                text += bytes.toString("latin1")
                if (text.length > textBytesMax) throw new Error("the response has no end")
              }
              return {
                status: response.statusCode ?? 0,
                headers: response.headers,
                text: Buffer.from(text, "latin1").toString()
              }
            } catch (error) {
              response.destroy()
              throw error
            } finally {
              signal.removeEventListener("abort", abort)
            }
          },
          catch: noAnswer
        }),

      download: (request) =>
        Effect.map(
          Effect.acquireRelease(
            Effect.interruptible(
              Effect.tryPromise({ try: (signal) => respondAlone(request, signal), catch: noAnswer })
            ),
            // What has been read to its end gives its socket back by itself; anything else would block it.
            (response) =>
              Effect.sync(() => (response.complete && response.readableLength === 0 ? undefined : response.destroy()))
          ),
          (response) => ({
            status: response.statusCode ?? 0,
            headers: response.headers,
            next: Effect.tryPromise({
              try: (signal) => chunkOf(response, timeoutMs, silent, signal),
              catch: noAnswer
            })
          })
        ),

      presign: (method, bucket, name, seconds, at) =>
        Effect.tryPromise({
          try: () => clientAt(at).presignedUrl(method, bucket, name, seconds),
          catch: (error) => new NoAnswer(false, asError(error))
        })
    }

    /** The signal of a request would end its response as well, which lives longer than the fiber that waited for it. */
    async function respondAlone(request: Request, signal: AbortSignal): Promise<http.IncomingMessage> {
      const own = new AbortController()
      const abort = () => own.abort()
      signal.addEventListener("abort", abort)
      try {
        return await respond(request, own.signal)
      } finally {
        signal.removeEventListener("abort", abort)
      }
    }
  })

/** The next bytes of a body, null at its end. A body that ends before its end is an error, and so is silence. */
const chunkOf = (
  response: http.IncomingMessage,
  timeoutMs: number,
  silent: () => Error,
  signal: AbortSignal
): Promise<Buffer | null> => {
  const ready = (): Buffer | null | undefined => {
    const bytes: Buffer | null = response.read()
    if (bytes !== null) return bytes
    if (response.readableEnded || (response.complete && response.readableLength === 0)) return null
    return undefined
  }
  return new Promise((resolve, reject) => {
    const first = response.destroyed && !response.complete ? undefined : ready()
    if (first !== undefined) return resolve(first)
    const stop = (act: () => void) => {
      clearTimeout(timer)
      response.off("readable", look).off("end", ended).off("error", failed).off("close", closed)
      signal.removeEventListener("abort", aborted)
      act()
    }
    const look = () => {
      const bytes = ready()
      if (bytes !== undefined) stop(() => resolve(bytes))
    }
    const ended = () => stop(() => resolve(null))
    const failed = (error: Error) => stop(() => reject(error))
    const closed = () =>
      stop(() => (response.complete ? resolve(null) : reject(new Error("the connection was closed amid the body"))))
    const aborted = () => failed(new Error("interrupted"))
    const timer = setTimeout(() => {
      const error = silent()
      response.destroy(error)
      failed(error)
    }, timeoutMs)
    response.on("readable", look).on("end", ended).on("error", failed).on("close", closed)
    signal.addEventListener("abort", aborted)
    if (response.destroyed) closed()
  })
}
