/**
 * What each error of Redis, of its driver and of the socket means: the table, and one real case of each meaning.
 */
import { expect, it, onTestFinished } from "vitest"
import { classify, rootOf } from "../../src/redis/database/failures.js"
import { describeOwnRedis } from "../support/backends.js"
import { startRedis } from "../support/redis.js"
import { at, failure, latest, open, save } from "./fixtures.js"

const reply = (message: string) => Object.assign(new Error(message), { name: "ReplyError" })
const meaning = (error: unknown) => classify(error, "asking")._tag

it.each([
  [
    "StoreUnavailable",
    ["ASK", "BUSY", "CLUSTERDOWN", "FAILOVER", "INPROG", "LOADING", "MASTERDOWN", "MISCONF", "MOVED"]
  ],
  ["StoreUnavailable", ["NOGOODSLAVE", "NOMASTERLINK", "NOQUORUM", "NOREPLICAS", "NOSCRIPT", "OOM", "READONLY"]],
  ["StoreUnavailable", ["TRYAGAIN", "UNBLOCKED", "UNSTABLE", "ERR max number of clients reached"]],
  ["StoreError", ["BUSYGROUP", "BUSYKEY", "CROSSSLOT", "DENIED", "ERR", "ERR DB index is out of range", "EXECABORT"]],
  ["StoreError", ["INVALIDOBJ", "NOAUTH", "NOPERM", "NOPROTO", "NOSUB", "NOTBUSY", "SYNTAX", "UNKILLABLE"]],
  ["StoreError", ["WRONGPASS", "WRONGTYPE", "SOMETHINGELSE"]]
] as const)("%s is what the replies %j mean", (expected, replies) => {
  for (const each of replies) expect(meaning(reply(`${each} and why`)), each).toBe(expected)
})

it("errors of sockets are told by their code, and what says only that there is no connection by why there is none", () => {
  const socket = (code: string) => Object.assign(new Error(code), { code })
  for (const code of ["ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EPIPE", ""]) {
    expect(meaning(socket(code)), code).toBe("StoreUnavailable")
  }
  for (const code of ["ENOTFOUND", "CERT_HAS_EXPIRED", "ERR_SSL_WRONG_VERSION_NUMBER", "DEPTH_ZERO_SELF_SIGNED_CERT"]) {
    expect(meaning(socket(code)), code).toBe("StoreError")
    for (const closed of ["Connection is closed.", "All sentinels are unreachable and retry is disabled."]) {
      expect(meaning(rootOf(new Error(closed), socket(code))), closed).toBe("StoreError")
      expect(meaning(rootOf(new Error(closed), undefined)), closed).toBe("StoreUnavailable")
    }
  }
})

describeOwnRedis("on a server", () => {
  it("one whose memory is full takes no more for now, and takes more when there is room", async () => {
    const server = await startRedis()
    onTestFinished(() => server.stop())
    const store = open(at(server, { pool: { maxRetries: 1 } }))
    await store.run(save(1))
    await server.command("config", "set", "maxmemory", "1")
    expect(failure(await store.exit(save(2)))).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
    await server.command("config", "set", "maxmemory", "0")
    await store.run(save(3))
    expect(await store.run(latest())).toBe(3)
  })
})
