/**
 * Events in old forms are read through a Schema that takes old and new. The files in golden/ are what earlier versions
 * of an application wrote. They are history: nothing can write them again, and when one of them is no longer read, it
 * is the Schema that is wrong.
 */
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import { assert, layer as vitestLayer } from "@effect/vitest"
import { DateTime, Effect, Either, ParseResult, Schema } from "effect"
import { Aggregate, EventStore, type Json, SnapshotPolicy } from "effect-stores"
import { it as plainIt } from "vitest"
import { eventsOf, flush, freshId, pairs, type Stores, snapshotTimeout, streamOf } from "./support/aggregates.js"

/** The SHA-256 of each file. A change of one of them is a change of the past. */
const golden = {
  // The application's first form: names, and movements as decimals with a sign.
  "account-2019.jsonl": "e8936c84fab1c13f4dd0b3c3d54894669c1eec7b4980d1ce4c750186d930dc3c",
  // `name` was renamed to `owner`, movements had become whole cents.
  "account-2021.jsonl": "1e88f56d922589fae167b24ea77b629e5d49eb7a789fcd2b7958413ee77560d7",
  // `currency` came with a default, movements were split into two types, and accounts could be closed, at a second.
  "account-2023.jsonl": "478e750aaf833aecd6415a8bc08e64377d43ae42be138a51488f6fa14ecfef17"
}

const textOf = (file: string): string => fs.readFileSync(new URL(`golden/${file}`, import.meta.url), "utf8")

const Line = Schema.Struct({
  tenantId: Schema.String,
  domain: Schema.String,
  aggregateId: Schema.String,
  id: Schema.String,
  version: Schema.Number,
  position: Schema.Number,
  type: Schema.String,
  data: Schema.Unknown,
  metadata: Schema.Record({ key: Schema.String, value: Schema.Unknown }),
  commandId: Schema.optional(Schema.String),
  instanceId: Schema.String,
  createdAt: Schema.DateTimeUtc
})

const history = Object.keys(golden).flatMap((file) =>
  textOf(file)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => Schema.decodeUnknownSync(Schema.parseJson(Line), { onExcessProperty: "error" })(line))
)

const Opened = Schema.TaggedStruct("Opened", {
  owner: Schema.String,
  currency: Schema.optionalWith(Schema.Literal("EUR", "USD"), { default: () => "EUR" as const })
})
const Renamed = Schema.TaggedStruct("Renamed", { owner: Schema.String })
const Deposited = Schema.TaggedStruct("Deposited", { cents: Schema.NonNegativeInt })
const Withdrawn = Schema.TaggedStruct("Withdrawn", { cents: Schema.NonNegativeInt })
const Closed = Schema.TaggedStruct("Closed", { at: Schema.Date })

/** An old form, read as today's. It is never written. */
const upcast = <A, I, B, J>(
  from: Schema.Schema<A, I>,
  to: Schema.Schema<B, J>,
  decode: (old: A) => B
): Schema.Schema<B, I> =>
  Schema.transformOrFail(from, Schema.typeSchema(to), {
    strict: true,
    decode: (old) => ParseResult.succeed(decode(old)),
    encode: (value, _, ast) => ParseResult.fail(new ParseResult.Forbidden(ast, value, "old forms are only read"))
  })

const moved = (cents: number) => (cents < 0 ? Withdrawn.make({ cents: -cents }) : Deposited.make({ cents }))

const oldForms = {
  "Opened with name": upcast(Schema.TaggedStruct("Opened", { name: Schema.String }), Opened, ({ name }) =>
    Opened.make({ owner: name, currency: "EUR" })
  ),
  "Moved by a decimal": upcast(
    Schema.TaggedStruct("Moved", { amount: Schema.String.pipe(Schema.pattern(/^-?\d+\.\d\d$/)) }),
    Schema.Union(Deposited, Withdrawn),
    ({ amount }) => moved(Number(amount.replace(".", "")))
  ),
  "Moved by cents": upcast(
    Schema.TaggedStruct("Moved", { cents: Schema.Int }),
    Schema.Union(Deposited, Withdrawn),
    ({ cents }) => moved(cents)
  ),
  "Closed at a second": upcast(Schema.TaggedStruct("Closed", { at: Schema.Number }), Closed, ({ at }) =>
    Closed.make({ at: new Date(at * 1000) })
  )
}

// Today's forms first: what fits them is written so.
const AccountEvent = Schema.Union(
  Opened,
  Renamed,
  Deposited,
  Withdrawn,
  Closed,
  oldForms["Opened with name"],
  oldForms["Moved by a decimal"],
  oldForms["Moved by cents"],
  oldForms["Closed at a second"]
)

const AccountState = Schema.Struct({
  owner: Schema.String,
  currency: Schema.String,
  cents: Schema.Number,
  movements: Schema.Number,
  closed: Schema.NullOr(Schema.Date)
})

type AccountState = typeof AccountState.Type

const initial: AccountState = { owner: "", currency: "", cents: 0, movements: 0, closed: null }

const evolve = (state: AccountState, event: typeof AccountEvent.Type): AccountState => {
  switch (event._tag) {
    case "Opened":
      return { ...state, owner: event.owner, currency: event.currency }
    case "Renamed":
      return { ...state, owner: event.owner }
    case "Deposited":
      return { ...state, cents: state.cents + event.cents, movements: state.movements + 1 }
    case "Withdrawn":
      return { ...state, cents: state.cents - event.cents, movements: state.movements + 1 }
    case "Closed":
      return { ...state, closed: event.at }
  }
}

const account = (snapshots: SnapshotPolicy.SnapshotPolicy<unknown>) =>
  Aggregate.make({
    domain: "account",
    state: AccountState,
    event: AccountEvent,
    initial,
    evolve,
    snapshots,
    snapshotTimeout
  })

/** Without a snapshot, and with one at every load. */
const Replayed = account(SnapshotPolicy.never)
const Account = account(SnapshotPolicy.every(1))

const eur = { currency: "EUR", closed: null }

/** What the owners of the accounts would say. */
const states: Readonly<Record<string, AccountState>> = {
  "2019-a": { ...eur, owner: "Grace Hopper", cents: 0, movements: 4 },
  "2019-b": { ...eur, owner: "Żółć, Ægir & 李", cents: 100_000_000, movements: 1 },
  "2021-a": { ...eur, owner: "Ada King", cents: 1, movements: 2 },
  "2021-b": { ...eur, owner: "Alan M. Turing", cents: -1, movements: 2 },
  "2023-a": {
    owner: "Barbara Liskov",
    currency: "USD",
    cents: 0,
    movements: 3,
    closed: new Date("2023-01-06T00:00:00Z")
  },
  "2023-b": { ...eur, owner: "E. W. Dijkstra", cents: 1, movements: 1 }
}

/** Those of one account, in the order in which they were written. */
const lifeOf = (aggregateId: string) => history.filter((event) => event.aggregateId === aggregateId)

/** Without the ids, so that they can be the beginning of several streams. */
const copies = (events: typeof history) =>
  events.map(({ commandId, createdAt, data, instanceId, metadata, type }) => ({
    commandId,
    createdAt,
    data,
    instanceId,
    metadata,
    type
  }))

plainIt("the golden files are as they were written", () => {
  const events = fs.readdirSync(new URL("golden", import.meta.url)).filter((file) => file.endsWith(".jsonl"))
  assert.deepStrictEqual(events.sort(), Object.keys(golden).sort())
  for (const [file, sha256] of Object.entries(golden)) {
    assert.strictEqual(createHash("sha256").update(textOf(file)).digest("hex"), sha256, file)
  }
  assert.deepStrictEqual([...new Set(history.map(({ aggregateId }) => aggregateId))].sort(), Object.keys(states).sort())
})

plainIt("without any one of the old forms, a golden event is read no more", () => {
  for (const [name, form] of Object.entries(oldForms)) {
    const others: ReadonlyArray<Schema.Schema.AnyNoContext> = AccountEvent.members.filter((member) => member !== form)
    assert.strictEqual(others.length, AccountEvent.members.length - 1)
    const decode = Schema.decodeUnknownEither(Schema.Union(...others))
    const unread = history.filter(({ data, type }) => Either.isLeft(decode({ ...(data as object), _tag: type })))
    assert.isAbove(unread.length, 0, name)
  }
})

for (const pair of pairs) {
  pair.describe(`Events of old versions on ${pair.name}`, () => {
    vitestLayer(pair.layer, { excludeTestServices: true, timeout: 900_000 })((it) => {
      const test = (title: string, body: () => Effect.Effect<void, unknown, Stores>) => it.effect(title, body, 900_000)

      test("are stored, read as today's and left as they are, with and without snapshots, at every version", () =>
        Effect.gen(function* () {
          const store = yield* EventStore.EventStore
          for (const [aggregateId, state] of Object.entries(states)) {
            const life = lifeOf(aggregateId)
            const id = { tenantId: "acme", aggregateId }
            const stream = streamOf(Account, id)
            for (const event of life) {
              yield* store.append(stream, [event], { expected: event.version - 1 })
              const replayed = yield* Aggregate.load(Replayed, id)
              const loaded = yield* Aggregate.load(Account, id)
              yield* flush(stream)
              const hit = yield* Aggregate.load(Account, id)
              assert.deepStrictEqual(
                [replayed, loaded, hit].map(({ version }) => version),
                [event.version, event.version, event.version]
              )
              assert.deepStrictEqual([hit.snapshotVersion, hit.replayed], [event.version, 0])
              assert.deepStrictEqual([loaded.state, hit.state], [replayed.state, replayed.state])
            }
            assert.deepStrictEqual((yield* Aggregate.load(Account, id)).state, state, aggregateId)
            for (const { version } of life) {
              assert.deepStrictEqual(
                (yield* Aggregate.loadAt(Account, id, version)).state,
                (yield* Aggregate.loadAt(Replayed, id, version)).state
              )
            }
            assert.deepStrictEqual(
              (yield* eventsOf(stream)).map(({ createdAt, position: _, ...event }) => ({
                ...event,
                createdAt: createdAt.epochMillis
              })),
              life.map(({ createdAt, position: _, ...event }) => ({
                ...event,
                data: event.data as Json.Json,
                metadata: event.metadata as Json.JsonObject,
                commandId: event.commandId,
                createdAt: createdAt.epochMillis
              }))
            )
          }
        }))

      test("are one life with today's, and what is decided now is written in today's form", () =>
        Effect.gen(function* () {
          const store = yield* EventStore.EventStore
          const id = freshId()
          const stream = streamOf(Account, id)
          const before = ["2019-a", "2021-b", "2023-b"].flatMap(lifeOf)
          yield* store.append(stream, copies(before), { expected: "noStream" })
          const at = new Date("2026-01-02T03:04:05.678Z")
          const { state, version } = yield* Aggregate.execute(Account, id, ({ cents }) => [
            Deposited.make({ cents: 5 - cents }),
            Opened.make({ owner: "Katherine Johnson", currency: "EUR" }),
            Closed.make({ at })
          ])
          assert.strictEqual(version, before.length + 3)
          const expected = { owner: "Katherine Johnson", currency: "EUR", cents: 5, movements: 8, closed: at }
          assert.deepStrictEqual(state, expected)
          yield* flush(stream)
          for (const aggregate of [Account, Replayed]) {
            assert.deepStrictEqual((yield* Aggregate.load(aggregate, id)).state, expected)
          }
          assert.deepStrictEqual(
            (yield* eventsOf(stream)).slice(-3).map(({ data, type }) => ({ data, type })),
            [
              { type: "Deposited", data: { cents: 5 } },
              { type: "Opened", data: { owner: "Katherine Johnson", currency: "EUR" } },
              { type: "Closed", data: { at: "2026-01-02T03:04:05.678Z" } }
            ]
          )
        }))

      test("in a form that nobody ever wrote fail the load, and say which event it is", () =>
        Effect.gen(function* () {
          const store = yield* EventStore.EventStore
          const id = freshId()
          const createdAt = DateTime.unsafeMake(0)
          for (const [version, data] of [{ amount: "12.5" }, { amount: 12 }, { cents: 0.5 }, {}].entries()) {
            yield* Aggregate.delete(Account, id)
            yield* store.append(streamOf(Account, id), copies(lifeOf("2019-a")), { expected: "noStream" })
            yield* Aggregate.load(Account, id)
            yield* store.append(streamOf(Account, id), [{ type: "Moved", data, createdAt }], { expected: 5 })
            const error = yield* Effect.flip(Aggregate.load(Account, id))
            assert.ok(error._tag === "EventDecodeError", `${version}`)
            assert.deepStrictEqual([error.type, error.version], ["Moved", 6])
          }
        }))
    })
  })
}
