/**
 * Commands of one turn of the event loop leave at its end, by one write to the socket: each write costs more than a
 * command. Unlike the driver's own pipelines, this lets each command be retried and interrupted by itself, and to a
 * cluster be redirected.
 */
import type { Redis } from "ioredis"
import { type Driver, isCluster } from "./driver.js"

type Socket = Redis["stream"]

/** The end of this turn of the event loop. */
const atEnd = (use: () => void): void => {
  setImmediate(use)
}

/** Short texts are joined, since each write costs; long ones are not, since a text has an end and joining copies. */
const joinMax = 256 * 1024

/** What the driver writes of its commands, as for its own pipelines: short ones are one text when they leave. */
class Outbox {
  readonly isPipeline = true
  readonly destination: { readonly redis: { readonly stream: Socket } }
  private parts: Array<string | Buffer> = []

  constructor(private readonly stream: Socket) {
    this.destination = { redis: { stream } }
  }

  write(part: string | Buffer): void {
    const { parts } = this
    if (parts.length === 0) atEnd(() => this.leave())
    const last = parts.at(-1)
    if (typeof last === "string" && typeof part === "string" && last.length + part.length <= joinMax) {
      parts[parts.length - 1] = last + part
    } else parts.push(part)
  }

  private leave(): void {
    const { parts, stream } = this
    this.parts = []
    // The commands fail with their connection.
    if (!stream.writable) return
    if (parts.length > 1) stream.cork()
    for (const part of parts) stream.write(part)
    if (parts.length > 1) stream.uncork()
  }
}

const outboxes = new WeakMap<Driver, { outbox: Outbox | undefined; of: Socket | undefined }>()

/**
 * For a connection on which nobody sends but through here: replies come in the order in which the driver was given the
 * commands, so none may leave between them. Those of a cluster's nodes are not such: the cluster sends by them as well.
 */
export const addOutbox = (driver: Redis): void => {
  outboxes.set(driver, { outbox: undefined, of: undefined })
}

/** Where to send the commands of this turn. Undefined while it connects: the driver then keeps them by itself. */
export const outboxOf = (driver: Driver): Outbox | undefined => {
  const box = outboxes.get(driver)
  if (box === undefined || isCluster(driver)) return undefined
  const { status, stream } = driver
  if (status !== "ready" || !stream?.writable) return undefined
  if (box.outbox === undefined || box.of !== stream) {
    box.outbox = new Outbox(stream)
    box.of = stream
  }
  return box.outbox
}

/** Drivers whose sockets are held back until the end of this turn. */
const holding = new WeakSet<Driver>()

/** The same for all other connections: the sockets keep what is written. */
export const hold = (driver: Driver): void => {
  if (holding.has(driver)) return
  const streams = (isCluster(driver) ? driver.nodes() : [driver]).flatMap(({ stream }) => stream ?? [])
  // It is connecting, and keeps commands by itself.
  if (streams.length === 0) return
  holding.add(driver)
  for (const stream of streams) stream.cork()
  atEnd(() => {
    holding.delete(driver)
    for (const stream of streams) stream.uncork()
  })
}
