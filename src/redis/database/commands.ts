/**
 * Commands as the driver sends them. Each is created whenever it is sent, since the driver's commands can be used only
 * once.
 */
import { createHash } from "node:crypto"
import { type Cluster, Command, type Redis } from "ioredis"
import { replyCode } from "./failures.js"

/** A connection to one server, or to the nodes of a cluster. */
export type Driver = Redis | Cluster

export const isCluster = (driver: Driver): driver is Cluster => driver.isCluster

/** The driver would store any other array of bytes as the text of its numbers. */
export type Argument = string | Buffer

export type Send = (driver: Driver) => Promise<unknown>

/** `utf8` returns the strings of a reply as text, `null` as bytes. */
export const command =
  (name: string, args: ReadonlyArray<Argument>, encoding: "utf8" | null = "utf8"): Send =>
  (driver) =>
    send(driver, name, args, encoding)

/** A script with its name on the server. */
export interface Script {
  readonly text: string
  readonly sha: string
}

export const makeScript = (text: string): Script => ({ text, sha: createHash("sha1").update(text).digest("hex") })

/**
 * Runs a script by its name, or by its text if the server does not know it: at first use, after a restart or `SCRIPT
 * FLUSH`, on a new master.
 */
export const evaluate =
  ({ sha, text }: Script, keys: ReadonlyArray<Argument>, args: ReadonlyArray<Argument>): Send =>
  (driver) => {
    const rest = [String(keys.length), ...keys, ...args]
    return send(driver, "evalsha", [sha, ...rest], "utf8").catch((error) => {
      if (replyCode(error) !== "NOSCRIPT") throw error
      return send(driver, "eval", [text, ...rest], "utf8")
    })
  }

/** Drivers whose commands of this turn of the event loop are held back until its end. */
const holding = new WeakSet<Driver>()

/**
 * A write to a socket costs more than a command, so the commands of one turn of the event loop leave by one write to
 * the socket of each node. Unlike the driver's own pipelining, this lets each command be redirected, retried and
 * interrupted by itself, whatever node its keys are on.
 */
const hold = (driver: Driver): void => {
  if (holding.has(driver)) return
  const streams = (isCluster(driver) ? driver.nodes() : [driver]).flatMap(({ stream }) => stream ?? [])
  // It is connecting, and keeps commands by itself.
  if (streams.length === 0) return
  holding.add(driver)
  for (const stream of streams) stream.cork()
  setImmediate(() => {
    holding.delete(driver)
    for (const stream of streams) stream.uncork()
  })
}

const send = (
  driver: Driver,
  name: string,
  args: ReadonlyArray<Argument>,
  encoding: "utf8" | null
): Promise<unknown> => {
  const sent = new Command(name, [...args], { replyEncoding: encoding })
  hold(driver)
  driver.sendCommand(sent)
  return sent.promise
}

/** Sends several commands, by one write to the socket of each node, and gives their replies in order. */
export const batch =
  (sends: ReadonlyArray<Send>): Send =>
  (driver) =>
    Promise.all(sends.map((send) => send(driver)))
