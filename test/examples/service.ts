/**
 * examples/orders as a process of its own: started, asked, stopped and killed.
 */
import { once } from "node:events"
import * as http from "node:http"
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { spawnWorker, type WorkerExit } from "../support/child.js"
import { project } from "../support/documents.js"
import { type Message, ServerSentEvents } from "./sse.js"

export interface Service {
  readonly log: () => string
  /** As an orchestrator does, and then waits for its end. */
  readonly stop: () => Promise<WorkerExit>
  readonly kill: () => Promise<WorkerExit>
}

/** Starts the service and resolves when it answers. */
export const startService = async (port: number, env: Readonly<Record<string, string>>): Promise<Service> => {
  const worker = spawnWorker(path.join(project, "examples/orders/main.ts"), {
    env: { ...env, PORT: String(port), NO_COLOR: "1" }
  })
  let log = ""
  void (async () => {
    for await (const line of worker.lines) log += `${line}\n`
  })()
  const end = (signal: NodeJS.Signals) => () => {
    worker.kill(signal)
    return worker.exited
  }
  let ended: WorkerExit | undefined
  void worker.exited.then((exit) => {
    ended = exit
  })
  for (;;) {
    if (ended !== undefined) throw new Error(`the service did not start:\n${log}${ended.stderr}`)
    const answers = await fetch(`http://127.0.0.1:${port}/openapi.json`).then(
      ({ ok }) => ok,
      () => false
    )
    if (answers) break
    await delay(20)
  }
  return { log: () => log, stop: end("SIGTERM"), kill: end("SIGKILL") }
}

export interface Answer {
  readonly status: number
  readonly body: unknown
  readonly headers: Headers
}

/** A client of a service that is there, or comes back, at this address. */
export const clientOf = (port: number) => {
  const base = `http://127.0.0.1:${port}`
  const ask = async (method: string, at: string, body?: string | Uint8Array, headers?: Record<string, string>) => {
    const response = await fetch(base + at, { method, ...(body !== undefined && { body }), headers: headers ?? {} })
    const text = await response.text()
    const isJson = response.headers.get("content-type")?.startsWith("application/json") === true
    return { status: response.status, body: isJson ? JSON.parse(text) : text, headers: response.headers }
  }
  return {
    base,
    get: (at: string): Promise<Answer> => ask("GET", at),
    post: (at: string, body: unknown, key: string = crypto.randomUUID()): Promise<Answer> =>
      ask("POST", at, JSON.stringify(body), { "content-type": "application/json", "idempotency-key": key }),
    put: (at: string, body: Uint8Array, key: string = crypto.randomUUID()): Promise<Answer> =>
      ask("PUT", at, body, { "content-type": "application/pdf", "idempotency-key": key }),
    download: async (at: string): Promise<Uint8Array> => new Uint8Array(await (await fetch(base + at)).arrayBuffer()),
    upload: (at: string, body: Uint8Array, key: string) => beginUpload(base + at, body, key),
    follow: (at: string) => new Follower(base + at)
  }
}

export type Client = ReturnType<typeof clientOf>

/** An upload of which the service has the first half, and that goes on when the test says so. */
const beginUpload = async (url: string, body: Uint8Array, key: string) => {
  const request = http.request(url, {
    method: "PUT",
    headers: {
      "content-type": "application/pdf",
      "content-length": body.byteLength,
      "idempotency-key": key,
      expect: "100-continue"
    }
  })
  const answered = once(request, "response").then(
    ([response]: Array<http.IncomingMessage>) => {
      response?.resume()
      return response?.statusCode
    },
    () => undefined
  )
  request.flushHeaders()
  // So the service is at work on this request now.
  await once(request, "continue")
  const half = body.byteLength >> 1
  await new Promise<unknown>((resolve) => request.write(body.subarray(0, half), resolve))
  return {
    /** The status of the response; undefined when the connection is lost. */
    answered,
    finish: () => {
      request.end(body.subarray(half))
      return answered
    }
  }
}

/** What a browser's `EventSource` does: connects again, until it is closed, and says the last id that it has seen. */
export class Follower {
  readonly seen: Array<Message> = []
  /** How often a connection has ended. */
  ends = 0
  private readonly closed = new AbortController()
  private readonly running: Promise<void>

  constructor(private readonly url: string) {
    this.running = this.run()
  }

  private async run(): Promise<void> {
    while (!this.closed.signal.aborted) {
      try {
        const last = this.seen.at(-1)?.id
        const headers: Record<string, string> = last === undefined ? {} : { "last-event-id": last }
        const events = await ServerSentEvents.of(await fetch(this.url, { headers, signal: this.closed.signal }))
        for (let next = await events.next(); next !== undefined; next = await events.next()) this.seen.push(next)
        this.ends++
      } catch {
        // Not there, or cut off: again.
        await delay(20)
      }
    }
  }

  close(): Promise<void> {
    this.closed.abort()
    return this.running
  }
}
