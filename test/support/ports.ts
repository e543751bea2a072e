/**
 * Free TCP ports for servers that tests start on the loopback interface.
 */
import * as net from "node:net"

/**
 * Below the ephemeral ports of Linux and macOS: while a server is down nobody else is handed its port, and a client
 * that keeps connecting to it cannot connect to itself.
 */
const range = { from: 15_000, to: 32_000 }

/** A port that nobody listens on now; who binds it must be ready to lose the race for it. */
export const freePort = async (): Promise<number> => {
  for (;;) {
    const port = range.from + Math.floor(Math.random() * (range.to - range.from))
    const probe = net.createServer()
    const free = await new Promise<boolean>((resolve) => {
      probe.once("error", () => resolve(false))
      probe.listen({ port, host: "127.0.0.1", exclusive: true }, () => resolve(true))
    })
    if (!free) continue
    await new Promise((resolve) => probe.close(resolve))
    return port
  }
}
