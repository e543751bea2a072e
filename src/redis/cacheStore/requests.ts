/**
 * How the CacheStore asks Redis: one command, several by one write to the socket of each node, and looks at keys with
 * the server's time.
 */
import * as Effect from "effect/Effect"
import type { Failure, Instead } from "../database/ClientPool.js"
import { batch, command, evaluate, type Send } from "../database/commands.js"
import { isCluster } from "../database/driver.js"
import type { RedisDatabaseShape } from "../RedisDatabase.js"
import { parse, type Stored } from "./format.js"
import * as scripts from "./scripts.js"

/** What a script returns that has looked at a key. */
export type Answer = readonly [what: string, nowMs: string, pttlMs: number, text: string | null]

export const storedOf = ([, nowMs, pttlMs, text]: Answer, headed = false): Stored | null =>
  parse(text, Number(nowMs), pttlMs, headed)

export type Requests = ReturnType<typeof make>

export const make = (database: RedisDatabaseShape) => {
  const run = <A>(operation: string, size: number, send: Send, onReply: (reply: unknown) => A | Instead<A>) =>
    database.run({ operation, size, send, onReply })

  /** Several commands by one write to the socket of each node. */
  const runAll = <A>(
    operation: string,
    size: number,
    sends: ReadonlyArray<Send>,
    onReply: (reply: unknown, index: number) => A
  ): Effect.Effect<ReadonlyArray<A>, Failure> =>
    sends.length === 0
      ? Effect.succeed([])
      : run(operation, size, batch(sends), (replies) => (replies as ReadonlyArray<unknown>).map(onReply))

  /** A cluster refuses keys of several slots in one command. */
  const perKey = <A>(
    operation: string,
    keys: ReadonlyArray<string>,
    many: (keys: ReadonlyArray<string>) => Send,
    one: (key: string) => Send,
    onReplies: (replies: unknown) => A
  ): Effect.Effect<A, Failure> => {
    const [only] = keys
    const single = keys.length === 1 && only !== undefined ? one(only) : undefined
    return run(
      operation,
      0,
      (driver) =>
        single !== undefined && !isCluster(driver)
          ? single(driver).then((reply) => [reply])
          : isCluster(driver)
            ? batch(keys.map(one))(driver)
            : many(keys)(driver),
      onReplies
    )
  }

  const gets = (operation: string, keys: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string | null>, Failure> =>
    perKey(
      operation,
      keys,
      (keys) => command("mget", keys),
      (key) => command("get", [key]),
      (replies) => replies as ReadonlyArray<string | null>
    )

  const unlink = (operation: string, keys: ReadonlyArray<string | Buffer>) =>
    run(
      operation,
      0,
      (driver) =>
        isCluster(driver)
          ? batch(keys.map((key) => command("unlink", [key])))(driver)
          : command("unlink", keys)(driver),
      () => undefined
    )

  /** Looks at keys with the server's time. */
  const look = (operation: string, keys: ReadonlyArray<string>, head = false) =>
    runAll(
      operation,
      0,
      keys.map((key) => evaluate(scripts.look, [key], [head ? "head" : ""])),
      (reply) => storedOf(reply as Answer, head)
    )

  return { run, runAll, gets, unlink, look }
}
