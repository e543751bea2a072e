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

const send = (
  driver: Driver,
  name: string,
  args: ReadonlyArray<Argument>,
  encoding: "utf8" | null
): Promise<unknown> => {
  const sent = new Command(name, [...args], { replyEncoding: encoding })
  driver.sendCommand(sent)
  return sent.promise
}

/**
 * Sends several commands by one write to the socket of each node, and gives their replies in order. The driver's own
 * pipelines would refuse keys of different nodes, and fail all commands where one is redirected.
 */
export const batch =
  (sends: ReadonlyArray<Send>): Send =>
  (driver) => {
    const streams = (isCluster(driver) ? driver.nodes() : [driver]).flatMap(({ stream }) => stream ?? [])
    for (const stream of streams) stream.cork()
    try {
      return Promise.all(sends.map((send) => send(driver)))
    } finally {
      for (const stream of streams) stream.uncork()
    }
  }
