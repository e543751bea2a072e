/**
 * Backends as a user may write them: classes over maps, which know nothing of sealing.
 */
import { Chunk, Clock, Effect, Stream } from "effect"
import { type CacheStoreEncoded, DataStore, DataStoreEncoded, Errors } from "effect-stores"

abstract class Notes {
  readonly #notes = new Map<string, string>()

  note(name: string, value: string | null): Effect.Effect<string | null> {
    return Effect.sync(() => {
      if (value !== null && !this.#notes.has(name)) this.#notes.set(name, value)
      return this.#notes.get(name) ?? null
    })
  }
}

interface Kept {
  readonly object: DataStoreEncoded.EncodedObject
  readonly bytes: Buffer
}

const MiB = 2 ** 20

export class OwnObjects extends Notes implements DataStoreEncoded.Encoded {
  readonly backend = "Own"
  readonly connection = "a map"
  readonly presign = null
  readonly capabilities: DataStore.Capabilities = {
    putIfAbsent: true,
    putIfMatch: false,
    copyIfAbsent: true,
    deleteIfMatch: false,
    presign: false,
    region: false,
    public: false,
    objectLocking: false,
    bucketLengthMax: 63,
    sizeMax: 2 ** 40,
    conditionalSizeMax: 2 ** 40
  }
  readonly #buckets = new Map<string, { readonly createdAt: number; readonly objects: Map<string, Kept> }>()

  #keep(object: DataStoreEncoded.EncodedObject, bytes: Buffer, { _tag }: DataStoreEncoded.Condition) {
    const objects = this.#buckets.get(object.bucket)?.objects
    if (objects === undefined) return { _tag: "NoBucket" } as const
    if (_tag === "IfAbsent" && objects.has(object.name)) return { _tag: "Refused" } as const
    objects.set(object.name, { object, bytes })
    return { _tag: "Stored", etag: object.etag, modifiedAt: object.modifiedAt } as const
  }

  put<E>(
    { finish, ...given }: DataStoreEncoded.NewObject,
    body: Stream.Stream<Uint8Array, E>,
    condition: DataStoreEncoded.Condition
  ): Effect.Effect<DataStoreEncoded.Written, E> {
    // The caller's bytes are the caller's again when the put has ended.
    return Effect.map(Stream.runCollect(Stream.map(body, (piece) => Buffer.from(piece))), (pieces) => {
      const bytes = Buffer.concat(Chunk.toReadonlyArray(pieces))
      return this.#keep({ ...given, ...finish(), size: bytes.byteLength, etag: given.writeId }, bytes, condition)
    })
  }

  open({ bucket, name }: DataStore.ObjectId): Effect.Effect<DataStoreEncoded.OpenObject | "NoBucket" | null> {
    return Effect.sync(() => {
      const objects = this.#buckets.get(bucket)?.objects
      if (objects === undefined) return "NoBucket"
      const kept = objects.get(name)
      if (kept === undefined) return null
      const { bytes, object } = kept
      const read = (offset: number, length: number) =>
        Stream.suspend(() => {
          if (this.#buckets.get(bucket)?.objects.get(name) !== kept)
            return Stream.fail(new DataStore.ObjectChanged({ bucket, name }))
          const count = Math.ceil(length / MiB)
          return Stream.fromIterable(
            Array.from({ length: count }, (_, i) => {
              const at = offset + i * MiB
              return Uint8Array.prototype.slice.call(bytes, at, Math.min(at + MiB, offset + length))
            })
          )
        })
      return { object, read }
    })
  }

  copy(
    from: DataStoreEncoded.EncodedObject,
    to: Parameters<DataStoreEncoded.Encoded["copy"]>[1],
    condition: DataStoreEncoded.Condition
  ): Effect.Effect<DataStoreEncoded.Written> {
    return Effect.sync(() => {
      const kept = this.#buckets.get(from.bucket)?.objects.get(from.name)
      return kept?.object.etag === from.etag
        ? this.#keep({ ...to, size: from.size, etag: to.writeId }, kept.bytes, condition)
        : { _tag: "Refused" }
    })
  }

  delete({ bucket, name }: DataStore.ObjectId): Effect.Effect<boolean | "NoBucket"> {
    return Effect.sync(() => this.#buckets.get(bucket)?.objects.delete(name) ?? "NoBucket")
  }

  list(
    bucket: string,
    request: DataStoreEncoded.ListRequest
  ): Stream.Stream<DataStoreEncoded.EncodedEntry, Errors.NotFound> {
    return Stream.suspend(() => {
      const objects = this.#buckets.get(bucket)?.objects
      if (objects === undefined) return Stream.fail(new Errors.NotFound({ what: `bucket ${bucket}` }))
      const rows = Array.from(objects.values(), ({ object }) => object).sort((a, b) =>
        DataStoreEncoded.compareNames(a.name, b.name)
      )
      return Stream.map(
        Stream.fromIterable(DataStoreEncoded.entriesOf(rows, request)),
        (entry): DataStoreEncoded.EncodedEntry =>
          // It does not say which key an object has: who wants to know opens it.
          entry._tag === "Prefix" ? entry : { _tag: "Object", ...entry.row, keyId: undefined }
      )
    })
  }

  createBucket(bucket: string, _: DataStore.BucketOptions, createdAt: number): Effect.Effect<boolean> {
    return Effect.sync(() => {
      const isNew = !this.#buckets.has(bucket)
      if (isNew) this.#buckets.set(bucket, { createdAt, objects: new Map() })
      return isNew
    })
  }

  deleteBucket(bucket: string): Effect.Effect<boolean, DataStore.BucketNotEmpty> {
    return Effect.suspend(() =>
      (this.#buckets.get(bucket)?.objects.size ?? 0) > 0
        ? Effect.fail(new DataStore.BucketNotEmpty({ bucket }))
        : Effect.succeed(this.#buckets.delete(bucket))
    )
  }

  bucketExists(bucket: string): Effect.Effect<boolean> {
    return Effect.sync(() => this.#buckets.has(bucket))
  }

  get buckets(): DataStoreEncoded.Encoded["buckets"] {
    return Effect.sync(() => Array.from(this.#buckets, ([name, { createdAt }]) => ({ name, createdAt })))
  }

  sweep(): Effect.Effect<number> {
    return Effect.succeed(0)
  }

  get reset(): Effect.Effect<void> {
    return Effect.sync(() => this.#buckets.clear())
  }

  /** All bytes and texts that are kept. */
  get stored(): Buffer {
    const all = [...this.#buckets.values()].flatMap(({ objects }) => [...objects.values()])
    return Buffer.concat(all.flatMap(({ bytes, object }) => [bytes, Buffer.from(JSON.stringify(object))]))
  }
}

interface Entry {
  readonly write: CacheStoreEncoded.EncodedWrite
  readonly freshUntil: number
  readonly keptUntil: number
}

interface Held {
  readonly place: CacheStoreEncoded.Place
  readonly token: string
  readonly tags: ReadonlyArray<string>
  readonly until: number
}

type Which = (record: CacheStoreEncoded.Place & { readonly tags: ReadonlyArray<string> }) => boolean

const idOf = ({ key, tenantId }: CacheStoreEncoded.Place) => JSON.stringify([tenantId, key])
const at = <A>(step: (nowMs: number) => A) => Effect.map(Clock.currentTimeMillis, step)
const inOne = <A>(items: ReadonlyArray<A>) => ({ items, next: undefined })

export class OwnCache extends Notes implements CacheStoreEncoded.Encoded {
  readonly inTransaction = Effect.succeed(false)
  readonly #entries = new Map<string, Entry>()
  readonly #tickets = new Map<string, Held>()

  #find(place: CacheStoreEncoded.Place, nowMs: number): CacheStoreEncoded.EncodedEntry | null {
    const entry = this.#entries.get(idOf(place))
    if (entry === undefined || entry.keptUntil <= nowMs) return null
    const { keyId, tags, value } = entry.write
    return { value, keyId, tags, freshMs: entry.freshUntil - nowMs }
  }

  #put(write: CacheStoreEncoded.EncodedWrite, nowMs: number): void {
    const freshUntil = nowMs + write.ttlMs
    this.#tickets.delete(idOf(write))
    this.#entries.set(idOf(write), { write, freshUntil, keptUntil: freshUntil + write.graceMs })
  }

  #cut(isGone: Which): void {
    for (const [id, { place, tags }] of this.#tickets) if (isGone({ ...place, tags })) this.#tickets.delete(id)
  }

  #remove(isGone: Which): Effect.Effect<void> {
    return Effect.sync(() => {
      this.#cut(isGone)
      for (const [id, { write }] of this.#entries) if (isGone(write)) this.#entries.delete(id)
    })
  }

  #age(isStale: Which): Effect.Effect<void> {
    return at((nowMs) => {
      this.#cut(isStale)
      for (const [id, entry] of this.#entries) {
        if (!isStale(entry.write) || entry.freshUntil <= nowMs) continue
        this.#entries.set(id, { ...entry, freshUntil: nowMs, keptUntil: nowMs + entry.write.graceMs })
      }
    })
  }

  get(place: CacheStoreEncoded.Place) {
    return at((nowMs) => this.#find(place, nowMs))
  }

  getMany(tenantId: string, keys: ReadonlyArray<string>) {
    return at((nowMs) => keys.map((key) => this.#find({ tenantId, key }, nowMs)))
  }

  set(writes: ReadonlyArray<CacheStoreEncoded.EncodedWrite>) {
    return at((nowMs) => {
      for (const write of writes) this.#put(write, nowMs)
    })
  }

  setIfAbsent(write: CacheStoreEncoded.EncodedWrite) {
    return at((nowMs) => {
      if ((this.#find(write, nowMs)?.freshMs ?? 0) > 0) return false
      this.#put(write, nowMs)
      return true
    })
  }

  touch(place: CacheStoreEncoded.Place, ttlMs: number) {
    return at((nowMs) => {
      const entry = this.#entries.get(idOf(place))
      if (entry === undefined || entry.freshUntil <= nowMs) return false
      const freshUntil = nowMs + ttlMs
      this.#entries.set(idOf(place), { ...entry, freshUntil, keptUntil: freshUntil + entry.write.graceMs })
      return true
    })
  }

  remove(tenantId: string, keys: ReadonlyArray<string>) {
    return this.#remove((record) => record.tenantId === tenantId && keys.includes(record.key))
  }

  expire(tenantId: string, keys: ReadonlyArray<string>) {
    return this.#age((record) => record.tenantId === tenantId && keys.includes(record.key))
  }

  invalidateTags(tenantId: string, tags: ReadonlyArray<string>) {
    return this.#remove((record) => record.tenantId === tenantId && record.tags.some((tag) => tags.includes(tag)))
  }

  expireTags(tenantId: string, tags: ReadonlyArray<string>) {
    return this.#age((record) => record.tenantId === tenantId && record.tags.some((tag) => tags.includes(tag)))
  }

  begin({ keys, leaseMs, refreshMs, tags, tenantId, token }: CacheStoreEncoded.BeginRequest) {
    return at((nowMs) =>
      keys.map((key): CacheStoreEncoded.Begun => {
        const place = { tenantId, key }
        const entry = this.#find(place, nowMs)
        if (entry !== null && entry.freshMs > 0 && !(entry.freshMs <= refreshMs)) return { _tag: "Fresh", entry }
        if ((this.#tickets.get(idOf(place))?.until ?? 0) > nowMs) return { _tag: "Busy", entry }
        this.#tickets.set(idOf(place), { place, token, tags, until: nowMs + leaseMs })
        return { _tag: "Granted", ticket: { ...place, token, tags: null }, entry }
      })
    )
  }

  #held(ticket: CacheStoreEncoded.Ticket, nowMs: number): Held | undefined {
    const held = this.#tickets.get(idOf(ticket))
    return held?.token === ticket.token && held.until > nowMs ? held : undefined
  }

  renew(tickets: ReadonlyArray<CacheStoreEncoded.Ticket>, leaseMs: number) {
    return at((nowMs) =>
      tickets.map((ticket) => {
        const held = this.#held(ticket, nowMs)
        if (held !== undefined) this.#tickets.set(idOf(ticket), { ...held, until: nowMs + leaseMs })
        return held !== undefined
      })
    )
  }

  settle(settlements: ReadonlyArray<CacheStoreEncoded.Settlement>) {
    return at((nowMs) =>
      settlements.map(({ holdMs, ticket, write }) => {
        const held = this.#held(ticket, nowMs)
        if (held === undefined) return false
        if (write !== null) this.#put(write, nowMs)
        if (holdMs === 0) this.#tickets.delete(idOf(ticket))
        else this.#tickets.set(idOf(ticket), { ...held, until: nowMs + holdMs })
        return true
      })
    )
  }

  #fresh(tenantId: string | null, prefix: string, nowMs: number) {
    return [...this.#entries.values()].filter(
      ({ freshUntil, write }) =>
        (tenantId === null || write.tenantId === tenantId) && write.key.startsWith(prefix) && freshUntil > nowMs
    )
  }

  list(tenantId: string, prefix: string) {
    return at((nowMs) =>
      inOne(
        this.#fresh(tenantId, prefix, nowMs).map(({ freshUntil, write }) => ({
          key: write.key,
          freshMs: freshUntil - nowMs
        }))
      )
    )
  }

  count(tenantId: string, prefix: string) {
    return at((nowMs) => this.#fresh(tenantId, prefix, nowMs).length)
  }

  replace(place: CacheStoreEncoded.Place, was: CacheStoreEncoded.Payload, payload: CacheStoreEncoded.Payload) {
    return Effect.sync(() => {
      const entry = this.#entries.get(idOf(place))
      if (entry?.write.value !== was.value || entry.write.keyId !== was.keyId) return false
      const { keyId, value } = payload
      this.#entries.set(idOf(place), { ...entry, write: { ...entry.write, value, keyId } })
      return true
    })
  }

  get addresses() {
    return Effect.sync(() => inOne(Array.from(this.#entries.values(), ({ write }) => write)))
  }

  reset(tenantId: string | null) {
    return this.#remove((record) => tenantId === null || record.tenantId === tenantId)
  }

  get info() {
    return at((nowMs) => ({ backend: "Own", connection: "a map", entries: this.#fresh(null, "", nowMs).length }))
  }

  /** All values that are kept. */
  get stored(): Buffer {
    return Buffer.from(JSON.stringify([...this.#entries.values()]))
  }
}
