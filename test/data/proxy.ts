/**
 * A proxy in front of an S3 server that loses what it is told to lose. It passes the `Host` header on, so signatures stay
 * good.
 */
import * as http from "node:http"
import { freePort } from "../support/ports.js"

/**
 * What becomes of a request. `drop`: the server does it, and its answer is lost. `hang`: the server does it, and nobody
 * says so. `cut`: so many bytes of the body of the answer come through. `stall`: no more than so many do, and the connection stays.
 * `flood`: what comes has no end. `answer`: the server does not hear of it;
 * `after`: it does, and this is answered instead.
 */
export type Fate =
  | { readonly do: "pass" }
  | { readonly do: "drop" }
  | { readonly do: "hang" }
  | { readonly do: "cut" | "stall"; readonly bytes: number }
  | { readonly do: "flood" }
  | { readonly do: "answer" | "after"; readonly status: number; readonly body?: string }

export interface Proxy {
  readonly endpoint: string
  /** All requests since the start, as `PUT /bucket/name?query`. */
  readonly seen: Array<string>
  /** What becomes of the requests from now on, asked for each by its line and its number among those that it matched. */
  decide: (line: string, headers: http.IncomingHttpHeaders) => Fate
  readonly stop: () => Promise<void>
}

export const startProxy = async (target: string): Promise<Proxy> => {
  const to = new URL(target)
  const seen: Array<string> = []
  const agent = new http.Agent({ keepAlive: true })
  const proxy: Proxy = {
    endpoint: "",
    seen,
    decide: () => ({ do: "pass" }),
    stop: async () => {
      server.closeAllConnections()
      agent.destroy()
      await new Promise((resolve) => server.close(resolve))
    }
  }
  const server = http.createServer((request, response) => {
    const line = `${request.method} ${request.url}`
    seen.push(line)
    const fate = proxy.decide(line, request.headers)
    response.on("error", () => {})
    if (fate.do === "flood") {
      const block = Buffer.alloc(256 * 1024, " ")
      const pour = () => {
        while (!response.destroyed && response.write(block));
      }
      response.writeHead(200).on("drain", pour)
      return pour()
    }
    if (fate.do === "answer") {
      request.resume().on("end", () => {
        response.writeHead(fate.status)
        response.end(fate.body)
      })
      return
    }
    const forward = http.request(
      { host: to.hostname, port: to.port, method: request.method, path: request.url, headers: request.headers, agent },
      (answer) => {
        if (fate.do === "pass" || fate.do === "cut" || fate.do === "stall") {
          response.writeHead(answer.statusCode ?? 500, answer.headers)
          if (fate.do === "pass") {
            answer.pipe(response)
          } else {
            let left = fate.bytes
            answer.on("data", (bytes: Buffer) => {
              response.write(bytes.subarray(0, left))
              left -= Math.min(left, bytes.byteLength)
              // What was written must get through first.
              if (left === 0 && fate.do === "cut") setTimeout(() => response.destroy(), 20)
            })
          }
          return
        }
        answer.resume().on("end", () => {
          if (fate.do === "drop") request.socket.destroy()
          if (fate.do === "after") {
            response.writeHead(fate.status)
            response.end(fate.body)
          }
        })
      }
    )
    forward.on("error", () => response.destroy())
    request.pipe(forward)
  })
  const port = await freePort()
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve))
  return Object.assign(proxy, { endpoint: `http://127.0.0.1:${port}` })
}

/** The fate for the first so many requests that the pattern fits; the others pass. */
export const first = (count: number, pattern: RegExp, fate: Fate): Proxy["decide"] => {
  let left = count
  return (line) => (pattern.test(line) && left-- > 0 ? fate : { do: "pass" })
}
