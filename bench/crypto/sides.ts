/**
 * What the bench of encryption calls: envelopes and object streams beside the cipher alone, and stores sealed beside the
 * same stores plain.
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto"
import { Chunk, Effect, Layer, ManagedRuntime, Redacted, Stream } from "effect"
import { CryptoService, EventStore, SnapshotStore } from "effect-stores"
import { encode } from "../../src/crypto/formats/context.js"
import * as envelope from "../../src/crypto/formats/envelope.js"
import * as object from "../../src/crypto/formats/object.js"
import { make as makeKey } from "../../src/crypto/keys/key.js"
import { effectSide, type Side, type Workload } from "../harness.js"

const secret = randomBytes(32)
const key = makeKey("bench", secret)
const context = encode({
  kind: "event",
  store: "0f0e0d0c-0b0a-4908-8706-050403020100",
  tenant: "tenant",
  domain: "Order",
  id: "order-1",
  version: 17,
  event: "0198c0de-0000-7000-8000-000000000001",
  type: "OrderPlaced",
  field: "data",
  metadata: 0
})
const find: envelope.FindKey = () => key

/** Many at once, since one is shorter than the look at the clock. */
const batch = 64

const syncSide = (name: string, operation: () => unknown): Side => ({
  name,
  run: async (_, end, latencies) => {
    do {
      const before = performance.now()
      for (let i = 0; i < batch; i++) operation()
      latencies.push(performance.now() - before)
      await new Promise(setImmediate)
    } while (performance.now() < end)
  }
})

const nothing = async () => {}

/** The cipher as anybody uses it: a random nonce, associated data, one message. */
const cipherSeal = (plaintext: Uint8Array): Buffer => {
  const nonce = randomBytes(12)
  const cipher = createCipheriv("aes-256-gcm", secret, nonce, { authTagLength: 16 })
  cipher.setAAD(context)
  return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()])
}

const cipherOpen = (sealed: Buffer): Buffer => {
  const decipher = createDecipheriv("aes-256-gcm", secret, sealed.subarray(0, 12), { authTagLength: 16 })
  decipher.setAAD(context)
  decipher.setAuthTag(sealed.subarray(-16))
  return Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()])
}

/** The bars, as ratios of speed: 1 / 1.7 and 1 / 1.1. */
const recordBars: ReadonlyArray<readonly [size: number, bar: number | undefined]> = [
  [256, 0.59],
  [1_024, undefined],
  [65_536, 0.91]
]

export const records: ReadonlyArray<Workload> = recordBars.flatMap(([size, bar]) => {
  const plaintext = randomBytes(size)
  const sealed = envelope.seal(key, context, plaintext)
  const raw = cipherSeal(plaintext)
  const bars: Record<string, number> = bar === undefined ? {} : { "node:crypto": bar }
  const common = { concurrency: 1, events: batch, prepare: nothing, bars }
  return [
    {
      ...common,
      name: `seal ${batch} records of ${size} B`,
      ours: syncSide("R1", () => envelope.seal(key, context, plaintext)),
      raw: [syncSide("node:crypto", () => cipherSeal(plaintext))]
    },
    {
      ...common,
      name: `open ${batch} records of ${size} B`,
      ours: syncSide("R1", () => envelope.open(find, context, sealed, () => "")),
      raw: [syncSide("node:crypto", () => cipherOpen(raw))]
    }
  ]
})

const pieceBytes = 256 * 1024
const pieces = Array.from({ length: 64 }, () => randomBytes(pieceBytes))
const none = ManagedRuntime.make(Layer.empty)

/** The same bytes through one cipher each way, which authenticates at the very end only. */
const rawBody = async (): Promise<ReadonlyArray<Buffer>> => {
  const cipher = createCipheriv("aes-256-gcm", secret, randomBytes(12), { authTagLength: 16 })
  const out: Array<Buffer> = []
  for (const piece of pieces) {
    out.push(cipher.update(piece))
    await nothing()
  }
  out.push(cipher.final(), cipher.getAuthTag())
  return out
}

const rawOpened = (sealed: ReadonlyArray<Buffer>, nonce: Buffer) => async () => {
  const decipher = createDecipheriv("aes-256-gcm", secret, nonce, { authTagLength: 16 })
  for (const piece of sealed) {
    decipher.update(piece)
    await nothing()
  }
}

export const objects = async (): Promise<ReadonlyArray<Workload>> => {
  const own = object.newObjectKey()
  const source = Stream.fromIterable(pieces).pipe(Stream.rechunk(1))
  const { header, segments } = object.beginBody(own)
  const sealed = Chunk.toReadonlyArray(await Effect.runPromise(Stream.runCollect(segments(source)))) as Array<Buffer>
  const opening = { object: own, keyId: "bench", bodyHeader: header, place: () => "" }
  const raw = await rawBody()
  const loop = (name: string, operation: () => Promise<unknown>): Side => ({
    name,
    run: async (_, end, latencies) => {
      do {
        const before = performance.now()
        await operation()
        latencies.push(performance.now() - before)
        await new Promise(setImmediate)
      } while (performance.now() < end)
    }
  })
  const common = { concurrency: 1, events: 1, prepare: nothing, bars: { "node:crypto": 0.7 } }
  return [
    {
      ...common,
      name: "seal an object of 16 MiB",
      ours: effectSide("O1", none, false, () => Stream.runDrain(segments(source))),
      raw: [loop("node:crypto", rawBody)]
    },
    {
      ...common,
      name: "open an object of 16 MiB",
      ours: effectSide("O1", none, false, () =>
        Stream.runDrain(object.openBody(opening, Stream.rechunk(Stream.fromIterable(sealed), 1)))
      ),
      raw: [loop("node:crypto", rawOpened(raw.slice(0, -2), randomBytes(12)))]
    }
  ]
}

type Stores = EventStore.EventStore | SnapshotStore.SnapshotStore

const keys = CryptoService.layer({ keys: [{ id: "bench", key: Redacted.make(secret) }], primary: "bench" })
const data = { id: "order-1", total: 12.5, lines: [1, 2, 3], note: "n".repeat(200) }
const state = { lines: Array.from({ length: 40 }, (_, i) => ({ sku: `sku-${i}`, count: i, price: 9.99 })) }
const streamOf = (side: string, caller: number) => ({
  tenantId: "tenant",
  domain: "Order",
  aggregateId: `${side}-${caller}`
})

/** Appends and reads of the same stores, sealed and plain. `bar` is for all. */
export const stores = (
  plain: Layer.Layer<Stores, unknown>,
  toSeal: Layer.Layer<Stores, unknown>,
  takesTurns: boolean,
  bar: number | undefined
): { readonly workloads: ReadonlyArray<Workload>; readonly close: () => Promise<void> } => {
  const open = (layer: Layer.Layer<Stores, unknown>) => ManagedRuntime.make(layer)
  const ours = open(toSeal.pipe(CryptoService.seal, Layer.provide(keys)))
  const theirs = open(plain)
  const sides = [
    ["sealed", ours],
    ["plain", theirs]
  ] as const
  const events = (use: (store: EventStore.EventStoreShape) => Effect.Effect<unknown, unknown>) =>
    Effect.flatMap(EventStore.EventStore, use)
  const snapshots = (use: (store: SnapshotStore.SnapshotStoreShape) => Effect.Effect<unknown, unknown>) =>
    Effect.flatMap(SnapshotStore.SnapshotStore, use)
  const hundred = Array.from({ length: 100 }, () => ({ type: "OrderPlaced", data }))
  const operations: Readonly<
    Record<string, (side: string, caller: number) => Effect.Effect<unknown, unknown, Stores>>
  > = {
    "append under any": (side, caller) =>
      events((store) =>
        store.append(streamOf(`any-${side}`, caller), [{ type: "OrderPlaced", data }], { expected: "any" })
      ),
    "read 100 events": (side) => events((store) => Stream.runDrain(store.read(streamOf(`read-${side}`, 0)))),
    "latest snapshot": (side) => snapshots((store) => store.latest(streamOf(side, 0)))
  }
  const prepare = async () => {
    for (const [side, runtime] of sides) {
      await runtime.runPromise(
        Effect.zipRight(
          events((store) =>
            Effect.flatMap(store.version(streamOf(`read-${side}`, 0)), (version) =>
              version > 0 ? Effect.void : store.append(streamOf(`read-${side}`, 0), hundred, { expected: "noStream" })
            )
          ),
          snapshots((store) =>
            store.save(streamOf(side, 0), {
              version: 100,
              lastEventMark: "00000000-0000-7000-8000-00000000000f",
              schemaVersion: "1",
              state
            })
          )
        )
      )
    }
  }
  const workloads = ([1, 32] as const).flatMap((concurrency) =>
    Object.entries(operations).map(([name, operation]): Workload => {
      const [sealed, raw] = sides.map(([side, runtime]) =>
        effectSide(side, runtime, takesTurns, (caller) => operation(side, caller))
      ) as [Side, Side]
      const bars: Record<string, number> = bar === undefined ? {} : { plain: bar }
      return { name, concurrency, events: name.startsWith("read") ? 100 : 1, prepare, ours: sealed, raw: [raw], bars }
    })
  )
  return {
    workloads,
    close: async () => {
      await ours.dispose()
      await theirs.dispose()
    }
  }
}
