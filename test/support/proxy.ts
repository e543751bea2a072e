/**
 * A TCP proxy whose server can be exchanged under its clients: what a failover looks like from them.
 */
import * as net from "node:net"

export interface Proxy {
  readonly port: number
  /** What servers have sent so far, as Latin-1. */
  readonly received: () => string
  /** Cuts all connections, and leads those to come to another port. */
  readonly leadTo: (port: number) => void
  /** Leads those to come to another port, and leaves the connections that are open. */
  readonly leadNext: (port: number) => void
  /** From now on nothing comes through: who is connected, and who connects, waits. */
  readonly hold: () => void
  /** What was held back goes on. */
  readonly release: () => void
  /** Resets all connections, as a machine does that has forgotten them. */
  readonly reset: () => void
  readonly stop: () => void
}

export const startProxy = async (port: number): Promise<Proxy> => {
  const open = new Set<net.Socket>()
  let target = port
  let received = ""
  let held = false
  const cut = () => {
    for (const socket of open) socket.destroy()
  }
  const listener = net.createServer((near) => {
    const far = net.connect(target, "127.0.0.1")
    for (const [socket, other] of [[near, far] as const, [far, near] as const]) {
      open.add(socket)
      socket.on("error", () => {})
      socket.on("close", () => {
        open.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
      if (held) socket.pause()
    }
    far.on("data", (data) => {
      received += data.toString("latin1")
    })
  })
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve))
  return {
    port: (listener.address() as net.AddressInfo).port,
    received: () => received,
    leadTo: (port) => {
      target = port
      cut()
    },
    leadNext: (port) => {
      target = port
    },
    hold: () => {
      held = true
      for (const socket of open) socket.pause()
    },
    release: () => {
      held = false
      for (const socket of open) socket.resume()
    },
    reset: () => {
      for (const socket of open) socket.resetAndDestroy()
    },
    stop: () => {
      listener.close()
      cut()
    }
  }
}
