/**
 * The DataStore on an S3 server whose answers get lost, are cut off or never come, and what its requests leave open.
 */
import { randomUUID } from "node:crypto"
import { Cause, type Clock, Deferred, Effect, Exit, Fiber, Layer, Option, Redacted, Stream } from "effect"
import { DataStore } from "effect-stores"
import { DataStoreMinio } from "effect-stores/minio"
import { afterAll, beforeEach, expect, it } from "vitest"
import { describeWith } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { startCeph } from "../support/s3.js"
import { heldClock } from "./clock.js"
import { first, startProxy } from "./proxy.js"
import { clientOf, leftOnS3 } from "./s3.js"

const MiB = 2 ** 20
const bytesOf = (size: number, seed = 1): Uint8Array => {
  const bytes = new Uint8Array(size)
  for (let i = 0; i < size; i++) bytes[i] = (i * seed + i / 251) & 255
  return bytes
}

describeWith("ceph", "the DataStore on S3, when answers get lost", async () => {
  const server = await startCeph()
  const proxy = await startProxy(server.endpoint)
  afterAll(async () => {
    await proxy.stop()
    await server.stop()
  })
  beforeEach(() => {
    proxy.decide = () => ({ do: "pass" })
    proxy.seen.length = 0
  })
  const direct: DataStoreMinio.ServerOptions = {
    endpoint: server.endpoint,
    accessKey: server.accessKey,
    secretKey: Redacted.make(server.secretKey),
    bucketPrefix: `p${randomUUID().slice(0, 8)}-`,
    partBytes: 5 * MiB,
    capabilities: { putIfAbsent: true, putIfMatch: "unquoted" }
  }
  // With all processors busy an answer may take seconds.
  const options: DataStoreMinio.ServerOptions = { ...direct, endpoint: proxy.endpoint, timeout: "2 minutes" }
  /** Where an answer never comes. */
  const impatient = { timeout: "2 seconds", maxRetries: 10 } as const

  const withStore = <A, E>(
    body: (store: DataStore.DataStoreShape, bucket: string) => Effect.Effect<A, E>,
    more: Partial<DataStoreMinio.ServerOptions> = {}
  ): Promise<A> =>
    Effect.gen(function* () {
      const store = yield* DataStore.DataStore
      const bucket = `b-${randomUUID().slice(0, 13)}`
      yield* store.buckets.create(bucket)
      return yield* body(store, bucket)
    }).pipe(Effect.provide(DataStoreMinio.layer({ ...options, ...more })), Effect.scoped, Effect.runPromise)

  const stored = (store: DataStore.DataStoreShape, id: DataStore.ObjectId) =>
    Effect.flatMap(store.get(id), (found) =>
      Effect.map(Stream.runCollect(Option.getOrThrow(found).body), (pieces) => Buffer.concat([...pieces]))
    )

  const failureOf = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.map(Effect.exit(effect), (exit) =>
      Exit.isFailure(exit) ? Option.getOrUndefined(Cause.failureOption(exit.cause)) : undefined
    )

  const operations: Readonly<
    Record<
      string,
      readonly [RegExp, (store: DataStore.DataStoreShape, id: DataStore.ObjectId) => Effect.Effect<unknown, unknown>]
    >
  > = {
    put: [/^PUT .*\/object$/, (store, id) => store.put(id, bytesOf(1_000))],
    "put with ifAbsent": [/^PUT .*\/object$/, (store, id) => store.put(id, bytesOf(1_000), { ifAbsent: true })],
    "the completion of an upload": [/^POST .*\/object\?uploadId/, (store, id) => store.put(id, bytesOf(6 * MiB))],
    "a part": [/^PUT .*\/object\?partNumber=1&/, (store, id) => store.put(id, bytesOf(6 * MiB))],
    "its record": [/^PUT .*\.effect-stores/, (store, id) => store.put(id, bytesOf(6 * MiB))],
    copy: [
      /^PUT .*\/copy$/,
      (store, id) => Effect.zipRight(store.put(id, bytesOf(1_000)), store.copy(id, { ...id, name: "copy" }))
    ]
  }
  for (const [name, [pattern, run]] of Object.entries(operations)) {
    for (const [what, fate] of [
      ["is lost", { do: "drop" }],
      ["never comes", { do: "hang" }],
      ["is 500 though it was done", { do: "after", status: 500, body: "<Error><Code>InternalError</Code></Error>" }],
      ["is 503 and it was not done", { do: "answer", status: 503, body: "" }],
      [
        "is that its body came too slowly",
        { do: "answer", status: 400, body: "<Error><Code>RequestTimeout</Code></Error>" }
      ]
    ] as const) {
      it(`${name}: succeeds when the answer ${what}`, () =>
        withStore(
          (store, bucket) =>
            Effect.gen(function* () {
              const id = { bucket, name: "object" }
              proxy.decide = first(1, pattern, fate)
              yield* run(store, id)
              proxy.decide = () => ({ do: "pass" })
              // What was done is found by its id, and not done again; a part and a record may be sent twice.
              const isDoneOnce = fate.do !== "answer" && name !== "a part" && name !== "its record"
              if (isDoneOnce) expect(proxy.seen.filter((line) => pattern.test(line)).length).toBe(1)
              const size = name.includes("put") || name === "copy" ? 1_000 : 6 * MiB
              expect((yield* stored(store, id)).equals(bytesOf(size))).toBe(true)
              if (name === "copy")
                expect((yield* stored(store, { bucket, name: "copy" })).equals(bytesOf(size))).toBe(true)
              expect(yield* leftOnS3(direct)).toBe(0)
            }),
          fate.do === "hang" ? impatient : {}
        ))
    }
  }

  it("a completion that answers 200 with an error inside is tried again", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        const id = { bucket, name: "object" }
        const body = "<?xml version='1.0'?><Error><Code>InternalError</Code></Error>"
        proxy.decide = first(1, /^POST .*uploadId/, { do: "answer", status: 200, body })
        yield* store.put(id, bytesOf(6 * MiB))
        expect((yield* stored(store, id)).byteLength).toBe(6 * MiB)
        expect(proxy.seen.filter((line) => /^POST .*uploadId/.test(line)).length).toBe(2)
      })
    ))

  it("ifAbsent, its answer lost, is ObjectExists when the object there is another's", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        const id = { bucket, name: "object" }
        yield* store.put(id, bytesOf(5))
        proxy.decide = first(1, /^PUT .*object/, { do: "drop" })
        expect(yield* failureOf(store.put(id, bytesOf(9), { ifAbsent: true }))).toMatchObject({ _tag: "ObjectExists" })
        expect((yield* stored(store, id)).byteLength).toBe(5)
      })
    ))

  it("409 is tried again, and never means that the object exists", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        const id = { bucket, name: "object" }
        const body = "<Error><Code>ConditionalRequestConflict</Code></Error>"
        proxy.decide = first(2, /^PUT .*object/, { do: "answer", status: 409, body })
        yield* store.put(id, bytesOf(5), { ifAbsent: true })
        expect((yield* stored(store, id)).byteLength).toBe(5)
      })
    ))

  it("what cannot be looked for is CommitOutcomeUnknown, and nobody says that it failed", () =>
    withStore(
      (store, bucket) =>
        Effect.gen(function* () {
          const id = { bucket, name: "object" }
          proxy.decide = (line) =>
            /^PUT .*object/.test(line)
              ? { do: "drop" }
              : line.startsWith("HEAD")
                ? { do: "answer", status: 503 }
                : { do: "pass" }
          expect(yield* failureOf(store.put(id, bytesOf(5)))).toMatchObject({ _tag: "CommitOutcomeUnknown" })
          proxy.decide = () => ({ do: "pass" })
          // It had happened.
          expect((yield* stored(store, id)).byteLength).toBe(5)
        }),
      { maxRetries: 1 }
    ))

  it("an upload of which nobody knows whether it was completed keeps what belongs to it, since it may be the object", () =>
    withStore(
      (store, bucket) =>
        Effect.gen(function* () {
          const id = { bucket, name: "object" }
          const bytes = bytesOf(6 * MiB)
          const isSent = () => proxy.seen.some((line) => /^POST .*\/object\?uploadId/.test(line))
          proxy.decide = (line) =>
            /^POST .*\/object\?uploadId/.test(line)
              ? { do: "drop" }
              : line.startsWith("HEAD") && isSent()
                ? { do: "answer", status: 503 }
                : { do: "pass" }
          expect(yield* failureOf(store.put(id, bytes))).toMatchObject({ _tag: "CommitOutcomeUnknown" })
          proxy.decide = () => ({ do: "pass" })
          // It had happened, and is as whole as if it had been said.
          expect((yield* stored(store, id)).equals(bytes)).toBe(true)
        }),
      { maxRetries: 1 }
    ))

  it("a server that cannot do it at all is StoreUnavailable after some tries", () =>
    withStore(
      (store, bucket) =>
        Effect.gen(function* () {
          proxy.decide = () => ({ do: "answer", status: 503 })
          for (const operation of [
            store.put({ bucket, name: "a" }, bytesOf(5)),
            store.get({ bucket, name: "a" }),
            Stream.runDrain(store.list(bucket))
          ] as ReadonlyArray<Effect.Effect<unknown, DataStore.PutError | DataStore.ReadError>>) {
            expect(yield* failureOf(operation)).toMatchObject({ _tag: "StoreUnavailable", retryable: true })
          }
        }),
      { maxRetries: 1 }
    ))

  it("a delete whose answer is lost has happened, and says that there was an object", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        const id = { bucket, name: "object" }
        yield* store.put(id, bytesOf(5))
        proxy.decide = first(1, /^DELETE/, { do: "drop" })
        expect(yield* store.delete(id)).toBe(true)
        expect(yield* store.delete(id)).toBe(false)
      })
    ))

  it("a body that is cut off again and again is gone on with, byte for byte", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        const id = { bucket, name: "object" }
        const bytes = bytesOf(6 * MiB + 77, 7)
        yield* store.put(id, bytes)
        proxy.decide = first(5, /^GET .*object/, { do: "cut", bytes: 1_000_003 })
        expect((yield* stored(store, id)).equals(bytes)).toBe(true)
        expect(proxy.seen.filter((line) => /^GET .*object/.test(line)).length).toBe(6)
      })
    ))

  it("a body that is cut off and then replaced is ObjectChanged, and no byte of the other is given", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        const id = { bucket, name: "object" }
        const bytes = bytesOf(6 * MiB, 7)
        yield* store.put(id, bytes)
        proxy.decide = first(1, /^GET .*object/, { do: "cut", bytes: 2_000_000 })
        const found = Option.getOrThrow(yield* store.get(id))
        let at = 0
        const reading = Stream.runForEach(found.body, (piece) =>
          Effect.gen(function* () {
            expect(Buffer.from(piece).equals(bytes.subarray(at, at + piece.byteLength))).toBe(true)
            if (at === 0) yield* store.put(id, bytesOf(6 * MiB, 9))
            at += piece.byteLength
          })
        )
        expect(yield* failureOf(reading)).toMatchObject({ _tag: "ObjectChanged" })
      })
    ))

  it("a body that stops coming is StoreUnavailable within the time that is set", () =>
    withStore(
      (store, bucket) =>
        Effect.gen(function* () {
          const id = { bucket, name: "object" }
          yield* store.put(id, bytesOf(1_000_000))
          proxy.decide = (line) => (/^GET .*object/.test(line) ? { do: "hang" } : { do: "pass" })
          expect(yield* failureOf(stored(store, id))).toMatchObject({ _tag: "StoreUnavailable" })
        }),
      { timeout: "200 millis", maxRetries: 1 }
    ))

  it("200 gets of which only the metadata is used send no request for a body, and leave no socket busy", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        const id = { bucket, name: "object" }
        yield* store.put(id, bytesOf(1_000_000))
        proxy.seen.length = 0
        yield* Effect.all(
          Array.from({ length: 200 }, () => store.get(id)),
          { concurrency: 20 }
        )
        expect(proxy.seen.filter((line) => line.startsWith("GET"))).toEqual([])
        // Bodies of which only the beginning is used neither.
        const found = Option.getOrThrow(yield* store.get(id))
        yield* Effect.all(
          Array.from({ length: 50 }, () => Stream.runDrain(Stream.take(found.body, 1))),
          { concurrency: 10 }
        )
        expect((yield* stored(store, id)).byteLength).toBe(1_000_000)
      })
    ))

  it("idle sockets that the server has closed are not noticed by anybody", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        const id = { bucket, name: "object" }
        yield* store.put(id, bytesOf(100))
        for (let i = 0; i < 10; i++) {
          yield* Effect.all(
            Array.from({ length: 10 }, () => store.head(id)),
            { concurrency: 10 }
          )
          proxy.decide = first(3, /^HEAD/, { do: "drop" })
        }
        expect((yield* stored(store, id)).byteLength).toBe(100)
      })
    ))

  it("a put that is interrupted while a part is on its way aborts the request and the upload", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        const id = { bucket, name: "object" }
        proxy.decide = (line) => (/partNumber=1&/.test(line) ? { do: "hang" } : { do: "pass" })
        const putting = yield* Effect.fork(store.put(id, bytesOf(11 * MiB)))
        yield* eventually(Effect.sync(() => proxy.seen.some((line) => /partNumber=1&/.test(line))))
        yield* Fiber.interrupt(putting)
        expect(Option.isNone(yield* store.get(id))).toBe(true)
        expect(yield* leftOnS3(direct)).toBe(0)
      })
    ))

  it("the record of what is being uploaded is put anew from time to time, by which a sweep knows that it is alive", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        const time = heldClock(Date.now())
        const [reached, go] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const held = Stream.drain(
          Stream.fromEffect(Effect.zipRight(Deferred.succeed(reached, undefined), Deferred.await(go)))
        )
        const id = { bucket, name: "object" }
        const body = Stream.concat(Stream.make(bytesOf(6 * MiB)), held)
        const putting = yield* Effect.fork(Effect.withClock(store.put(id, body), time.clock))
        yield* Deferred.await(reached)
        const records = Effect.sync(() => proxy.seen.filter((line) => /^PUT .*\.effect-stores/.test(line)).length)
        yield* eventually(records, (count) => count === 1)
        for (const count of [2, 3]) {
          yield* eventually(Effect.sync(() => time.sleepers() === 1))
          time.moveTo(Date.now())
          yield* eventually(records, (seen) => seen === count)
        }
        yield* Deferred.succeed(go, undefined)
        yield* Fiber.join(putting)
        expect((yield* stored(store, id)).byteLength).toBe(6 * MiB)
        expect(yield* leftOnS3(direct)).toBe(0)
      })
    ))

  /** The clock of this side says how long ago something was put. */
  const later = Effect.map(
    Effect.clock,
    (clock): Clock.Clock =>
      Object.assign(Object.create(clock), { currentTimeMillis: Effect.sync(() => Date.now() + 2 * 3_600_000) })
  )
  const sweepLater = (store: DataStore.DataStoreShape) =>
    Effect.flatMap(later, (clock) => Effect.withClock(store.sweep(), clock))

  /** An upload with its record, of a process that has died. */
  const leave = (bucket: string) =>
    Effect.promise(async () => {
      const client = clientOf(direct)
      const real = `${direct.bucketPrefix}${bucket}`
      const uploadId = await client.initiateNewMultipartUpload(real, "object", {})
      const record = Buffer.from(JSON.stringify({ v: 1, name: "object", uploadId, fields: null }))
      await client.putObject(real, `.effect-stores/${randomUUID()}`, record)
    })

  it("what a process that died has left is swept by its age, and what another is writing is not", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        yield* leave(bucket)
        expect(yield* leftOnS3(direct)).toBe(2)
        expect(yield* store.sweep()).toBe(0)
        expect(yield* sweepLater(store)).toBe(1)
        expect(yield* leftOnS3(direct)).toBe(0)
      })
    ))

  it("an upload that the server does not let go keeps its record, by which the next sweep finds it", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        yield* leave(bucket)
        proxy.decide = (line) => (/^DELETE .*uploadId=/.test(line) ? { do: "answer", status: 204 } : { do: "pass" })
        expect(yield* sweepLater(store)).toBe(0)
        expect(yield* leftOnS3(direct)).toBe(2)
        proxy.decide = () => ({ do: "pass" })
        expect(yield* sweepLater(store)).toBe(1)
        expect(yield* leftOnS3(direct)).toBe(0)
      })
    ))

  it("a sweep leaves the records of what is there, and what it does not know, and takes that of what was replaced", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        const client = clientOf(direct)
        const real = `${direct.bucketPrefix}${bucket}`
        const [kept, replaced] = [
          { bucket, name: "kept" },
          { bucket, name: "replaced" }
        ] as const
        for (const id of [kept, replaced]) yield* store.put(id, bytesOf(6 * MiB), { metadata: { of: id.name } })
        yield* Effect.promise(() => client.putObject(real, ".effect-stores/readme", Buffer.from("not a record")))
        expect(yield* sweepLater(store)).toBe(0)
        yield* store.put(replaced, bytesOf(10))
        expect(yield* sweepLater(store)).toBe(1)
        expect((yield* stored(store, kept)).equals(bytesOf(6 * MiB))).toBe(true)
        expect(Option.getOrThrow(yield* store.head(kept)).metadata).toEqual({ of: "kept" })
        expect((yield* stored(store, replaced)).equals(bytesOf(10))).toBe(true)
        const foreign = yield* Effect.promise(() => client.statObject(real, ".effect-stores/readme"))
        expect(foreign.size).toBe("not a record".length)
      })
    ))

  it("a reset ends uploads that were left, with everything else", () =>
    withStore((store, bucket) =>
      Effect.gen(function* () {
        yield* leave(bucket)
        yield* store.put({ bucket, name: "large" }, bytesOf(6 * MiB))
        yield* store.reset
        expect(yield* leftOnS3(direct)).toBe(0)
        // Some servers take it away with the bucket, and some do not let the bucket go.
        expect(proxy.seen.filter((line) => /^DELETE .*\/object\?uploadId=/.test(line)).length).toBeGreaterThan(0)
        expect(yield* store.buckets.list).toEqual([])
      })
    ))

  it("presigned URLs work by plain fetch through the public endpoint, and the object that was put can be read", () =>
    withStore(
      (store, bucket) =>
        Effect.gen(function* () {
          for (const name of ["plain.txt", "a b+c%20é/漢?#&.txt"]) {
            const id = { bucket, name }
            const url = yield* store.presign.put(id)
            expect(url.startsWith(proxy.endpoint)).toBe(true)
            const body = bytesOf(1_000_000)
            const put = yield* Effect.promise(() =>
              fetch(url, { method: "PUT", body, headers: { "content-type": "text/x" } })
            )
            expect(put.status).toBe(200)
            const head = Option.getOrThrow(yield* store.head(id))
            expect(head).toMatchObject({
              size: body.byteLength,
              contentType: "text/x",
              metadata: {},
              sha256: undefined
            })
            expect((yield* stored(store, id)).equals(body)).toBe(true)
            const got = yield* Effect.flatMap(store.presign.get(id), (url) =>
              Effect.promise(() => fetch(url).then((response) => response.arrayBuffer()))
            )
            expect(Buffer.from(got).equals(body)).toBe(true)
            // It is an object like others.
            yield* store.move(id, { bucket, name: "moved" })
            expect((yield* stored(store, { bucket, name: "moved" })).equals(body)).toBe(true)
          }
        }),
      { endpoint: server.endpoint, publicEndpoint: proxy.endpoint }
    ))

  it("a copy in parts keeps everything, where one request takes no more", () =>
    withStore(
      (store, bucket) =>
        Effect.gen(function* () {
          const [from, to] = [
            { bucket, name: "from" },
            { bucket, name: "to é" }
          ] as const
          const bytes = bytesOf(12 * MiB, 3)
          yield* store.put(from, bytes, { contentType: "a/b", metadata: { Key: "é" } })
          const info = yield* store.copy(from, to)
          expect(info).toMatchObject({ contentType: "a/b", metadata: { Key: "é" }, size: bytes.byteLength })
          expect((yield* stored(store, to)).equals(bytes)).toBe(true)
          expect(proxy.seen.filter((line) => /^PUT .*partNumber=3&/.test(line)).length).toBe(2)
        }),
      { copyBytes: 5 * MiB }
    ))

  it("a source that is replaced in the middle of a copy is ObjectChanged on a server that ignores the condition", () =>
    withStore(
      (store, bucket) =>
        Effect.gen(function* () {
          const [from, to] = [
            { bucket, name: "from" },
            { bucket, name: "to" }
          ] as const
          yield* store.put(from, bytesOf(100))
          const other = yield* Effect.provide(DataStore.DataStore, yield* Layer.build(DataStoreMinio.layer(direct)))
          let replaced = false
          // Between the look at the source and the copy.
          proxy.decide = (line) => (/^HEAD .*\/to$/.test(line) && !replaced ? { do: "hang" } : { do: "pass" })
          const copying = yield* Effect.fork(failureOf(store.copy(from, to)))
          yield* eventually(Effect.sync(() => proxy.seen.some((line) => /^HEAD .*\/to$/.test(line))))
          yield* other.put(from, bytesOf(100, 5))
          replaced = true
          expect(yield* Fiber.join(copying)).toMatchObject({ _tag: "ObjectChanged" })
          expect(Option.isNone(yield* store.head(to))).toBe(true)
        }).pipe(Effect.scoped),
      impatient
    ))
})
