/**
 * The DataStore on the file system, as the system sees it: what is synced when, links that somebody has planted, a disk
 * that is full, and what dead processes have left.
 */
import { spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import nodeFs, * as fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import * as path from "node:path"
import { Cause, Effect, Exit, Fiber, Option, Stream } from "effect"
import { DataStore, DataStoreEncoded } from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { afterAll, describe, expect, it, onTestFinished } from "vitest"
import { describeWith, temporaryDirectory } from "../support/backends.js"
import { spawnWorker } from "../support/child.js"
import { eventually } from "../support/eventually.js"

const withStore = <A, E>(root: string, body: (store: DataStore.DataStoreShape) => Effect.Effect<A, E>): Promise<A> =>
  Effect.flatMap(DataStore.DataStore, body).pipe(Effect.provide(DataStoreFileSystem.layer({ root })), Effect.runPromise)

const failureOf = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.map(Effect.exit(effect), (exit) =>
    Exit.isFailure(exit) ? Option.getOrUndefined(Cause.failureOption(exit.cause)) : undefined
  )

const id = { bucket: "bucket", name: "object" }
const bytes = new Uint8Array(1_000_000).fill(7)

/** What test/data/writer.ts puts. */
const ofWriter = { bucket: "worker", name: "object" }

describeWith("strace", "what reaches the disk, and when", () => {
  it("a file is synced before it is renamed, and its folder after, before the put is acknowledged", async () => {
    const root = temporaryDirectory()
    const trace = path.join(temporaryDirectory(), "trace")
    const worker = spawnWorker(new URL("./writer.ts", import.meta.url), {
      args: ["fs", "put", "1000000"],
      env: { WORKER_PLACE: root, WORKER_PUTS: "5" },
      under: ["strace", "-f", "-y", "-e", "trace=fsync,rename,renameat2,write", "-o", trace]
    })
    expect(await worker.exited).toMatchObject({ code: 0 })
    const steps = fs
      .readFileSync(trace, "utf8")
      .split("\n")
      .flatMap((line) => {
        if (/fsync\(\d+<[^>]*incoming\//.test(line) || /fsync\(\d+<.*\/incoming\/[^>]*>\)/.test(line)) return ["file"]
        if (/fsync\(\d+<[^>]*objects\/worker>/.test(line)) return ["folder"]
        if (/rename/.test(line) && line.includes("incoming/")) return ["rename"]
        if (/write\(1<.*\{\\"n\\":/.test(line)) return ["said"]
        return []
      })
    const cycles = steps.join(" ").split("said").slice(0, 5)
    expect(cycles.length).toBe(5)
    for (const cycle of cycles) expect(cycle.trim()).toBe("file rename folder")
  })
})

describeWith("strace", "a delete", () => {
  it("is synced in its folder before it is acknowledged", async () => {
    const trace = path.join(temporaryDirectory(), "trace")
    const worker = spawnWorker(new URL("./writer.ts", import.meta.url), {
      args: ["fs", "delete", "1000"],
      env: { WORKER_PLACE: temporaryDirectory() },
      under: ["strace", "-f", "-y", "-e", "trace=fsync,unlink,write", "-o", trace]
    })
    expect(await worker.exited).toMatchObject({ code: 0 })
    const steps = fs
      .readFileSync(trace, "utf8")
      .split("\n")
      .flatMap((line) => {
        if (/unlink\(.*objects\/worker\/object"/.test(line)) return ["unlink"]
        if (/fsync\(\d+<[^>]*objects\/worker>/.test(line)) return ["folder"]
        return /write\(1<.*\{\\"n\\":/.test(line) ? ["said"] : []
      })
    expect(steps.slice(steps.indexOf("unlink"))).toEqual(["unlink", "folder", "said"])
  })
})

describeWith("strace", "a sync that fails", () => {
  /** Puts 40 MB, 1 kB and 40 MB under one name, where the so-manieth sync fails, as a disk does that lost what it had. */
  const put = async (failing?: number) => {
    const root = temporaryDirectory()
    const trace = path.join(temporaryDirectory(), "trace")
    const fault = failing === undefined ? [] : ["-e", `inject=fsync:error=EIO:when=${failing}`]
    const worker = spawnWorker(new URL("./writer.ts", import.meta.url), {
      args: ["fs", "put", "40000000"],
      // One thread makes all calls, so that they are counted together.
      env: { WORKER_PLACE: root, WORKER_PUTS: "3", UV_THREADPOOL_SIZE: "1" },
      under: ["strace", "-f", "-y", "-e", "trace=fsync", ...fault, "-o", trace]
    })
    const exit = await worker.exited
    const syncs = fs
      .readFileSync(trace, "utf8")
      .split("\n")
      .flatMap((line) => /fsync\(\d+<[^>]*\/([^/>]*)(?: \(deleted\))?>/.exec(line)?.[1] ?? [])
    return { exit, root, syncs }
  }

  it("fails the put, whichever it is: the old object stays, or nobody says that the new one is kept", async () => {
    const { exit, syncs } = await put()
    expect(exit).toMatchObject({ code: 0 })
    // Of the last put: once while it is written, once at its end, and its folder.
    expect(syncs.length).toBeGreaterThan(3)
    const [early, end, folder] = syncs.slice(-3)
    expect([early, folder]).toEqual([end, ofWriter.bucket])
    for (const [from, error, kept] of [
      [2, /StoreUnavailable: put failed.*EIO/, "2"],
      [1, /StoreUnavailable: put failed.*EIO/, "2"],
      [0, /CommitOutcomeUnknown.*EIO/, "3"]
    ] as const) {
      const failed = await put(syncs.length - from)
      expect(failed.exit.code).toBe(1)
      expect(failed.exit.stderr).toMatch(error)
      await withStore(failed.root, (store) =>
        Effect.gen(function* () {
          const found = Option.getOrThrow(yield* store.get(ofWriter))
          expect(found.info.metadata).toEqual({ n: kept })
          const size = yield* Stream.runFold(found.body, 0, (sum, piece) => sum + piece.byteLength)
          expect(size).toBe(kept === "2" ? 1_000 : 40_000_000)
          expect(fs.readdirSync(path.join(failed.root, "incoming"))).toEqual([])
        })
      )
    }
  })
})

describe("links that somebody has planted inside the folder", () => {
  it("a bucket that is a link is not gone into, by any operation", async () => {
    const [root, outside] = [temporaryDirectory(), temporaryDirectory()]
    await withStore(root, (store) =>
      Effect.gen(function* () {
        yield* store.buckets.create(id.bucket)
        fs.rmdirSync(path.join(root, "objects", id.bucket))
        fs.symlinkSync(outside, path.join(root, "objects", id.bucket))
        for (const operation of [
          store.put(id, bytes),
          store.get(id),
          store.delete(id),
          store.copy(id, { ...id, name: "copy" }),
          Stream.runDrain(store.list(id.bucket)),
          store.buckets.exists(id.bucket)
        ] as ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>>) {
          expect(yield* failureOf(operation)).toMatchObject({ _tag: "StoreError" })
        }
        yield* store.reset
        expect(fs.readdirSync(outside)).toEqual([])
        expect(fs.existsSync(outside)).toBe(true)
      })
    )
  })

  it("the folder for what is being written is not gone into when it is one", async () => {
    const [root, outside] = [temporaryDirectory(), temporaryDirectory()]
    await withStore(root, (store) =>
      Effect.gen(function* () {
        yield* store.buckets.create(id.bucket)
        fs.rmdirSync(path.join(root, "incoming"))
        fs.symlinkSync(outside, path.join(root, "incoming"))
        expect(yield* failureOf(store.put(id, bytes))).toMatchObject({ _tag: "StoreError" })
        expect(fs.readdirSync(outside)).toEqual([])
      })
    )
  })

  it("an object that is one is ObjectCorrupt, is replaced by a put, and what it leads to stays", async () => {
    const [root, outside] = [temporaryDirectory(), temporaryDirectory()]
    const secret = path.join(outside, "secret")
    fs.writeFileSync(secret, "secret")
    await withStore(root, (store) =>
      Effect.gen(function* () {
        yield* store.buckets.create(id.bucket)
        fs.symlinkSync(secret, path.join(root, "objects", id.bucket, id.name))
        expect(yield* failureOf(store.get(id))).toMatchObject({ _tag: "ObjectCorrupt" })
        yield* store.put(id, bytes)
        expect((yield* store.head(id))._tag).toBe("Some")
        expect(fs.readFileSync(secret, "utf8")).toBe("secret")
      })
    )
  })

  it("a file of another object, moved by hand, is ObjectCorrupt; and so is one that was cut off", async () => {
    const root = temporaryDirectory()
    await withStore(root, (store) =>
      Effect.gen(function* () {
        yield* store.buckets.create(id.bucket)
        yield* store.put(id, bytes)
        const at = (name: string) => path.join(root, "objects", id.bucket, name)
        fs.copyFileSync(at("object"), at("other"))
        expect(yield* failureOf(store.get({ ...id, name: "other" }))).toMatchObject({ _tag: "ObjectCorrupt" })
        fs.truncateSync(at("object"), 500_000)
        expect(yield* failureOf(store.get(id))).toMatchObject({ _tag: "ObjectCorrupt" })
        expect(yield* store.delete(id)).toBe(true)
      })
    )
  })
})

it("a body that was found is not read from what was copied over its file since, though the file is the same", async () => {
  const root = temporaryDirectory()
  await withStore(root, (store) =>
    Effect.gen(function* () {
      // A name of the same length, so that the files have the same size too.
      const other = { ...id, name: "others" }
      yield* store.buckets.create(id.bucket)
      yield* store.put(id, bytes)
      yield* store.put(other, bytes.toReversed().fill(8, 0, 10))
      const at = (name: string) => path.join(root, "objects", id.bucket, name)
      const { body } = Option.getOrThrow(yield* store.get(id))
      const { ino, size } = fs.statSync(at(id.name))
      fs.copyFileSync(at(other.name), at(id.name))
      expect(fs.statSync(at(id.name)).ino).toBe(ino)
      expect(fs.statSync(at(id.name)).size).toBe(size)
      expect(yield* failureOf(Stream.runDrain(body))).toMatchObject({ _tag: "ObjectChanged", ...id })
    })
  )
})

it("a put that is interrupted closes its file only after the write that is under way: its number may be another's then", async () => {
  const root = temporaryDirectory()
  const { write } = nodeFs
  const held: Array<{ readonly file: number; readonly letGo: () => void }> = []
  const hold = (file: number, ...args: ReadonlyArray<unknown>) => {
    held.push({ file, letGo: () => Reflect.apply(write, nodeFs, [file, ...args]) })
  }
  const patch = (to: typeof write) => {
    nodeFs.write = to
    syncBuiltinESMExports()
  }
  onTestFinished(() => patch(write))
  await withStore(root, (store) =>
    Effect.gen(function* () {
      yield* store.buckets.create(id.bucket)
      patch(Object.assign(hold, { __promisify__: write.__promisify__ }) as typeof write)
      // More than a piece, so that one is written, and then nothing comes.
      const body = Stream.concat(Stream.make(new Uint8Array(300_000)), Stream.never)
      const putting = yield* Effect.fork(store.put(id, body))
      yield* eventually(Effect.sync(() => held.length === 1))
      const interrupting = yield* Effect.fork(Fiber.interrupt(putting))
      // Turns of the event loop, in which the file would be closed.
      for (let n = 0; n < 50; n++) yield* Effect.async<void>((done) => void setImmediate(() => done(Effect.void)))
      for (const { file } of held) expect(fs.readlinkSync(`/proc/self/fd/${file}`)).toContain("/incoming/")
      expect(interrupting.unsafePoll()).toBe(null)
      patch(write)
      for (const { letGo } of held) letGo()
      expect(Exit.isInterrupted(yield* Fiber.join(interrupting))).toBe(true)
      expect(fs.readdirSync(path.join(root, "incoming"))).toEqual([])
    })
  )
})

it("a source that is replaced before it is copied is ObjectChanged, and nothing is made", () =>
  Effect.gen(function* () {
    const port = yield* DataStoreFileSystem.makeEncoded({ root: temporaryDirectory() })
    const options = { system: "filesystem" }
    const store = DataStoreEncoded.make(port, options)
    const to = { ...id, name: "copy" }
    const late = DataStoreEncoded.make(
      { ...port, copy: (...args) => Effect.zipRight(Effect.orDie(store.put(id, bytes)), port.copy(...args)) },
      options
    )
    yield* store.buckets.create(id.bucket)
    yield* store.put(id, bytes)
    expect(yield* failureOf(late.copy(id, to))).toMatchObject({ _tag: "ObjectChanged", ...id })
    expect(Option.isNone(yield* store.head(to))).toBe(true)
  }).pipe(Effect.runPromise))

describe("files that were cut off, or changed, at their end", () => {
  const short = ["a", "b", "c"]
  const long = ["d", "e"].map((letter) => letter.repeat(900))

  const damaged = (names: ReadonlyArray<string>, damage: (file: string) => void) => {
    const root = temporaryDirectory()
    return withStore(root, (store) =>
      Effect.gen(function* () {
        yield* store.buckets.create(id.bucket)
        for (const name of names) yield* store.put({ ...id, name }, bytes)
        damage(path.join(root, "objects", id.bucket))
        const seen: Array<DataStore.Entry> = []
        const failure = yield* failureOf(
          Stream.runForEach(store.list(id.bucket), (entry) => Effect.sync(() => seen.push(entry)))
        )
        return { failure, seen, store }
      })
    )
  }
  const nameOf = (entry: DataStore.Entry) => (entry._tag === "Object" ? entry.name : entry.prefix)

  for (const [what, damage] of [
    ["cut off in the middle", (file: string) => fs.truncateSync(file, 500_000)],
    ["emptied", (file: string) => fs.truncateSync(file, 0)],
    ["another program's", (file: string) => fs.writeFileSync(file, "a note")]
  ] as const) {
    it(`one that is ${what} is in lists and counts, and opening and deleting it go on from there`, async () => {
      const { failure, seen, store } = await damaged(short, (folder) => damage(path.join(folder, "b")))
      expect(failure).toBeUndefined()
      expect(seen.map(nameOf)).toEqual(short)
      await Effect.gen(function* () {
        expect(yield* store.count(id.bucket)).toBe(3)
        expect((yield* store.info).objects).toBe(3)
        const found = { ...id, name: "b" }
        for (const open of [store.get(found), store.head(found)] as ReadonlyArray<Effect.Effect<unknown, unknown>>)
          expect(yield* failureOf(open)).toMatchObject({ _tag: "ObjectCorrupt", name: "b" })
        const copy = store.copy({ ...id, name: "a" }, found, { ifAbsent: true })
        expect(yield* failureOf(copy)).toMatchObject({ _tag: "ObjectExists", name: "b" })
        expect(yield* store.delete(found)).toBe(true)
        expect(yield* store.count(id.bucket)).toBe(2)
      }).pipe(Effect.runPromise)
    })
  }

  it("a folder in their place is no object", async () => {
    const { failure, seen } = await damaged(short, (folder) => fs.mkdirSync(path.join(folder, "bb")))
    expect([failure, seen.map(nameOf)]).toEqual([undefined, short])
  })

  it("one whose long name is lost with its end fails the list by its file, after all others", async () => {
    let file = ""
    const { failure, seen, store } = await damaged([...short, ...long], (folder) => {
      file = fs.readdirSync(folder).find((name) => name.startsWith("~")) ?? ""
      fs.truncateSync(path.join(folder, file), 500_000)
    })
    expect(failure).toMatchObject({ _tag: "ObjectCorrupt", bucket: id.bucket, name: file })
    expect(seen.length).toBe(4)
    const first = Stream.runCollect(store.list(id.bucket, { limit: 3 }))
    expect([...(await Effect.runPromise(first))].map(nameOf)).toEqual(short)
  })
})

it("what dead processes have left is swept by name and age, and nothing else", async () => {
  const root = temporaryDirectory()
  await withStore(root, (store) =>
    Effect.gen(function* () {
      const incoming = (name: string) => path.join(root, "incoming", name)
      const [old, fresh] = [randomUUID(), randomUUID()]
      for (const name of [old, fresh, "notes.txt"]) fs.writeFileSync(incoming(name), "x")
      const hoursAgo = Date.now() / 1_000 - 7_200
      for (const name of [old, "notes.txt"]) fs.utimesSync(incoming(name), hoursAgo, hoursAgo)
      expect(yield* store.sweep()).toBe(1)
      expect(fs.readdirSync(path.join(root, "incoming")).sort()).toEqual([fresh, "notes.txt"].sort())
    })
  )
})

describe("a disk that is full", () => {
  const mount = temporaryDirectory()
  const isMounted =
    process.getuid?.() === 0 && spawnSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", mount]).status === 0
  afterAll(() => {
    if (isMounted) spawnSync("umount", [mount])
  })

  it.skipIf(!isMounted)(
    "keeps the old object, is StoreUnavailable, leaves nothing, and goes on when there is room",
    async () => {
      await withStore(mount, (store) =>
        Effect.gen(function* () {
          yield* store.buckets.create(id.bucket)
          yield* store.put(id, bytes)
          const large = new Uint8Array(6_000_000).fill(1)
          for (let i = 0; i < 3; i++) {
            expect(yield* failureOf(store.put(id, large))).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
            expect(yield* failureOf(store.put({ ...id, name: "new" }, large))).toMatchObject({
              _tag: "StoreUnavailable"
            })
          }
          expect(fs.readdirSync(path.join(mount, "incoming"))).toEqual([])
          const found = Option.getOrThrow(yield* store.get(id))
          expect(yield* Stream.runFold(found.body, 0, (sum, piece) => sum + piece.byteLength)).toBe(bytes.byteLength)
          expect(yield* store.count(id.bucket)).toBe(1)
          yield* store.put({ ...id, name: "small" }, bytes)
          expect(yield* store.count(id.bucket)).toBe(2)
        })
      )
    }
  )
})
