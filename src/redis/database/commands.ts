/**
 * Commands as the driver sends them. Each is created whenever it is sent, since the driver's commands can be used only
 * once.
 */
import { createHash } from "node:crypto"
import { Command } from "ioredis"
import type { Driver } from "./driver.js"
import { replyCode } from "./failures.js"
import { hold, outboxOf } from "./outbox.js"

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
  const outbox = outboxOf(driver)
  if (outbox === undefined) hold(driver)
  driver.sendCommand(sent, outbox)
  return sent.promise
}

/** Sends several commands, by one write to the socket of each node, and gives their replies in order. */
export const batch =
  (sends: ReadonlyArray<Send>): Send =>
  (driver) =>
    Promise.all(sends.map((send) => send(driver)))
