/**
 * How the driver makes its sockets. The driver itself listens only to the first error of a socket, so a second one,
 * which TLS can have, would be an uncaught exception. And it reports a node or a Sentinel that it cannot reach as a
 * closed connection, without the reason.
 */
import * as net from "node:net"
import * as tls from "node:tls"
import { AbstractConnector, type Redis, type RedisOptions, SentinelConnector } from "ioredis"

export type OnError = (error: unknown) => void

type Connector = NonNullable<RedisOptions["Connector"]>

/** To one server, or to a node of a cluster. */
export const direct = (onError: OnError): Connector =>
  class extends AbstractConnector {
    constructor(private readonly options: RedisOptions) {
      super(options.disconnectTimeout ?? 0)
    }

    async connect(): Promise<net.Socket> {
      this.connecting = true
      const { host = "localhost", port = 6379, tls: encryption } = this.options
      const socket = encryption === undefined ? net.connect({ host, port }) : tls.connect({ ...encryption, host, port })
      this.stream = socket
      socket.on("error", (error) => {
        this.firstError ??= error
        onError(error)
      })
      return socket
    }
  } as Connector

/** To a master that sentinels are asked for. */
export const bySentinels = (onError: OnError): Connector =>
  class {
    constructor(options: RedisOptions) {
      const connector = new SentinelConnector(options)
      const inner = connector as unknown as {
        connect: (...args: Array<unknown>) => Promise<net.Socket>
        connectToSentinel: (...args: Array<unknown>) => Redis
      }
      const { connect, connectToSentinel } = inner
      inner.connect = async (...args) => {
        const socket = await connect.apply(connector, args)
        return socket.on("error", onError)
      }
      inner.connectToSentinel = (...args) => {
        const sentinel = connectToSentinel.apply(connector, args)
        sentinel.on("error", (error) => {
          onError(error)
          sentinel.stream?.on("error", onError)
        })
        return sentinel
      }
      // biome-ignore lint/correctness/noConstructorReturn: the driver makes it with new, and what it makes is this one.
      return connector as never
    }
  } as unknown as Connector
