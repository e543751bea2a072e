/**
 * Several processes on one file, and what reaches the disk when: the other processes are real, and so are the system
 * calls, which strace shows and makes fail.
 */
import * as fs from "node:fs"
import { Effect, Fiber } from "effect"
import { describe, expect, it } from "vitest"
import { describeWith } from "../support/backends.js"
import { childCommand, freshFile, placed, readAll, startChild, streamOf, withStore } from "./support.js"

/** Another process that keeps the file locked until it is told to let go. */
const locking = (filename: string) =>
  Effect.promise(async () => {
    const other = startChild(childCommand("lock", filename))
    await other.printed("locked")
    return {
      unlock: Effect.promise(() => {
        other.process.stdin?.end()
        return other.done
      })
    }
  })

describe("a file that another process has locked", () => {
  it("delays an append without blocking the event loop, and never shows", async () => {
    const filename = freshFile()
    await withStore({ filename, pool: { acquireTimeout: "1 hour" } }, (store, { transaction }) =>
      Effect.gen(function* () {
        const other = yield* locking(filename)
        const writes = yield* Effect.fork(
          Effect.all(
            [
              store.append(streamOf("1"), [placed()], { expected: "noStream" }),
              store.append(streamOf("1"), [placed(), placed()], { expected: "any" }),
              transaction(store.append(streamOf("2"), [placed()], { expected: "noStream" }))
            ],
            { concurrency: "unbounded" }
          )
        )
        // Blocked, it would not come to these.
        for (let turn = 0; turn < 20; turn++) yield* Effect.sleep("5 millis")
        expect((yield* Fiber.poll(writes))._tag).toBe("None")
        yield* other.unlock
        yield* Fiber.join(writes)
        expect(yield* readAll(store, "1")).toHaveLength(3)
      })
    )
  })

  it("ends an append with PoolTimeout after acquireTimeout", async () => {
    const filename = freshFile()
    await withStore({ filename, pool: { acquireTimeout: "50 millis" } }, (store, { state }) =>
      Effect.gen(function* () {
        const other = yield* locking(filename)
        expect(yield* Effect.flip(store.append(streamOf("1"), [placed()], { expected: "any" }))).toMatchObject({
          _tag: "PoolTimeout",
          retryable: true
        })
        yield* other.unlock
        expect((yield* state).writer).toEqual({ open: 1, idle: 1, waiting: 0 })
        expect(yield* readAll(store, "1")).toHaveLength(0)
      })
    )
  })
})

/** A traced process stops at each call of the system: with all processors busy that takes minutes. */
const tracedTimeoutMs = 900_000

describeWith("strace", "on the disk", () => {
  it(
    "every append is synced before it is acknowledged",
    async () => {
      const filename = freshFile()
      const trace = `${filename}.trace`
      const traced = ["strace", "-f", "-e", "trace=fsync,fdatasync,write", "-e", "signal=none", "-o", trace] as const
      await startChild([...traced, ...childCommand("append", filename)]).done
      let synced = 0
      const unsynced: Array<string> = []
      let acknowledged = 0
      for (const line of fs.readFileSync(trace, "utf8").split("\n")) {
        if (/\b(fsync|fdatasync)(\(| resumed).*= 0$/.test(line)) synced++
        if (line.includes('"acknowledged ')) {
          acknowledged++
          if (synced === 0) unsynced.push(line)
          synced = 0
        }
      }
      expect(acknowledged).toBe(50)
      expect(unsynced).toEqual([])
    },
    tracedTimeoutMs
  )

  for (const { command, failures, streams } of [
    { command: "appendOnFaultyDisk", failures: 1, streams: ["child"] },
    { command: "appendTogetherOnFaultyDisk", failures: 3, streams: ["a", "b", "c"] }
  ]) {
    it(
      `a sync that fails is CommitOutcomeUnknown for each of ${failures}, and a repeated append is there once`,
      async () => {
        const filename = freshFile()
        const inject = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when=20"]
        const faulty = ["strace", "-f", ...inject, "-o", "/dev/null"] as const
        const output = await startChild([...faulty, ...childCommand(command, filename)]).done
        expect(output).toBe("failed CommitOutcomeUnknown\n".repeat(failures))
        await withStore({ filename }, (store) =>
          Effect.forEach(streams, (name) =>
            Effect.map(readAll(store, name), (events) => {
              expect(events.map(({ data }) => data)).toEqual(events.map((_, i) => i))
              expect(events).toHaveLength(streams.length === 1 ? 50 : 30)
            })
          )
        )
      },
      tracedTimeoutMs
    )
  }
})
