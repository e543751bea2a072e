/**
 * Where keys come from: what is refused, by name and without a byte of a key; providers that are down, slow, deny or give
 * rubbish; the cache of unwrapped keys.
 */
import assert from "node:assert/strict"
import * as fs from "node:fs"
import * as path from "node:path"
import { inspect } from "node:util"
import {
  Cause,
  Chunk,
  Config,
  ConfigProvider,
  DateTime,
  Deferred,
  Duration,
  Effect,
  Exit,
  Layer,
  Option,
  Redacted,
  Stream,
  TestClock,
  TestContext
} from "effect"
import { CacheStore, CacheStoreEncoded, CryptoService, EventStore, EventStoreEncoded } from "effect-stores"
import { CacheStoreMemory, EventStoreMemory } from "effect-stores/memory"
import { describe, test } from "vitest"
import type * as provider from "../../src/crypto/keys/provider.js"
import { temporaryDirectory } from "../support/backends.js"
import { keyBytesOf, ringOf } from "./fixtures.js"

const hex = (name: string) => keyBytesOf(name).toString("hex")
const base64url = (name: string) => keyBytesOf(name).toString("base64url")

/** What building the layer fails with; "built" when it does not. Holds every form of the error against the secrets. */
const outcome = async <A, E>(layer: Layer.Layer<A, E>, secrets: ReadonlyArray<string> = []): Promise<string> => {
  const exit = await Effect.runPromiseExit(Effect.scoped(Layer.build(layer)))
  const shown = [inspect(exit, { depth: 20, showHidden: true }), JSON.stringify(exit)]
  if (Exit.isFailure(exit)) shown.push(Cause.pretty(exit.cause), String(exit))
  for (const secret of secrets) for (const text of shown) assert.ok(!text.includes(secret), "shows a secret")
  if (Exit.isSuccess(exit)) return "built"
  assert.ok(!Cause.isDie(exit.cause), Cause.pretty(exit.cause))
  const error = Cause.squash(exit.cause)
  return error instanceof Error ? error.message : String(error)
}

const key = (id: string, text: string | Uint8Array, status?: CryptoService.KeyStatus) => ({
  id,
  key: Redacted.make(text),
  status
})

describe("a ring", () => {
  test("takes keys in hexadecimal, base64url and as bytes, and they are the same keys", async () => {
    const sealed = (text: string | Uint8Array) =>
      Effect.flatMap(CryptoService.CryptoService, (crypto) => crypto.seal("here", "text")).pipe(
        Effect.provide(CryptoService.layer({ keys: [key("k1", text)], primary: "k1" }))
      )
    const open = (bytes: Uint8Array) =>
      Effect.flatMap(CryptoService.CryptoService, (crypto) => crypto.open("here", bytes)).pipe(
        Effect.provide(CryptoService.layer(ringOf("k1")))
      )
    for (const text of [hex("k1"), hex("k1").toUpperCase(), base64url("k1"), Uint8Array.from(keyBytesOf("k1"))]) {
      const opened = await Effect.runPromise(Effect.flatMap(sealed(text), open))
      assert.equal(Buffer.from(opened).toString(), "text")
    }
  })

  test("of a key that has not 32 bytes is refused: which key, its length, none of it", async () => {
    for (const length of [0, 16, 24, 31, 33, 64]) {
      const bytes = Buffer.alloc(length, "s3cr3t!")
      for (const text of [bytes.toString("hex"), bytes.toString("base64url"), bytes]) {
        const layer = CryptoService.layer({
          keys: [key("good", hex("k1")), key("bad", text), key("fine", hex("k2"))],
          primary: "good"
        })
        // 64 bytes in hexadecimal and so on: the number of bytes, however they are written.
        assert.equal(
          await outcome(layer, length === 0 ? [] : [bytes.toString("hex"), bytes.toString("base64url"), "s3cr3t"]),
          `the key bad has ${length} bytes, not 32`
        )
      }
    }
  })

  test("names what it refuses", async () => {
    const good = key("k1", hex("k1"))
    const cases: ReadonlyArray<readonly [CryptoService.RingOptions, RegExp]> = [
      [{ keys: [], primary: "k1" }, /^keys: must not be empty/],
      [{ keys: [good], primary: "k2" }, /^primary: is none of the keys/],
      [{ keys: [good], primary: "" }, /^primary: must not be empty/],
      [{ keys: [good, key("k1", hex("k2"))], primary: "k1" }, /^keys\[1\].id: k1 is the id of another key too/],
      [{ keys: [key("k1", hex("k1"), "decryptOnly")], primary: "k1" }, /^primary: the key k1 is decryptOnly/],
      [{ keys: [key("k1", hex("k1"), "disabled")], primary: "k1" }, /^primary: the key k1 is disabled/],
      [{ keys: [key("too-long-1", hex("k1"))], primary: "too-long-1" }, /^keys\[0\].id: must be 1 to 8 of/],
      [{ keys: [key("ключ", hex("k1"))], primary: "ключ" }, /^keys\[0\].id: must be 1 to 8 of/],
      [{ keys: [key("k1", "not a key!")], primary: "k1" }, /^the key k1: must be hexadecimal or base64url/],
      [{ keys: [key("k1", Buffer.alloc(32, 7))], primary: "k1" }, /^the key k1: is 32 times the same byte/],
      [{ keys: [{ id: "k1", key: hex("k1") as never }], primary: "k1" }, /^the key k1: must be redacted/],
      [{ keys: [{ ...good, statsu: 1 } as never], primary: "k1" }, /^a key of keys\[0\]: must be one of/],
      [{ keys: [good], primary: "k1", polcy: 1 } as never, /^a key of options: must be one of/],
      [{ keys: [good], primary: "k1", policy: "none" } as never, /^policy: must be one of RequireEncrypt/],
      [{ keys: [good], primary: "k1", watermark: { events: 1 } } as never, /^watermark: is for EncryptAllowPlaintext/],
      [
        { keys: [good], primary: "k1", policy: "EncryptAllowPlaintext", watermark: { events: -1 } } as never,
        /^watermark.events: must be at least 0/
      ]
    ]
    for (const [options, expected] of cases)
      assert.match(await outcome(CryptoService.layer(options), [hex("k1"), base64url("k1")]), expected)
    const watermark = { events: 5, createdUntil: DateTime.unsafeMake(0) }
    const layer = CryptoService.layer({ ...ringOf("k1"), policy: "EncryptAllowPlaintext", watermark })
    assert.equal(await outcome(layer), "built")
  })

  test("shows no key, however it is looked at", async () => {
    const shown = await Effect.runPromise(
      Effect.map(CryptoService.CryptoService, (crypto) => [
        inspect(crypto, { depth: 20, showHidden: true }),
        JSON.stringify(crypto),
        String(crypto)
      ]).pipe(Effect.provide(CryptoService.layer(ringOf("k1", "k2"))))
    )
    for (const name of ["k1", "k2"]) {
      const bytes = keyBytesOf(name)
      for (const secret of [hex(name), base64url(name), [...bytes].join(","), [...bytes].join(", ")])
        for (const text of shown) assert.ok(!text.includes(secret))
    }
  })
})

describe("Config", () => {
  const built = (entries: Record<string, string>, secrets: ReadonlyArray<string> = []) =>
    outcome(
      Layer.provide(
        CryptoService.layerConfig(Config.nested(CryptoService.config, "ENCRYPTION")),
        Layer.setConfigProvider(
          ConfigProvider.fromMap(new Map(Object.entries(entries).map(([k, v]) => [`ENCRYPTION.${k}`, v])))
        )
      ),
      secrets
    )

  test("lists keys, names the primary, and may give a policy", async () => {
    const keys = `2026=${hex("k1")}, 2025=${base64url("k2")}:decryptOnly\n2024=${hex("k3")}:disabled`
    assert.equal(await built({ KEYS: keys, PRIMARY: "2026" }), "built")
    assert.equal(await built({ KEYS: keys, PRIMARY: "2026", POLICY: "EncryptAllowPlaintext" }), "built")
    assert.match(await built({ KEYS: keys, PRIMARY: "2026", POLICY: "Maybe" }), /POLICY/)
    assert.match(await built({ KEYS: keys, PRIMARY: "2025" }), /PRIMARY: "the key 2025 is decryptOnly/)
  })

  test("that is empty is absent", async () => {
    for (const keys of ["", "   "]) assert.match(await built({ KEYS: keys, PRIMARY: "k1" }), /KEYS: "must be given/)
    assert.match(await built({ KEYS: `k1=${hex("k1")}`, PRIMARY: "" }), /PRIMARY: "must be given/)
    assert.match(await built({ KEYS: `k1=${hex("k1")}` }), /PRIMARY/)
    const optional = await Effect.runPromise(
      Effect.withConfigProvider(
        Config.option(CryptoService.config),
        ConfigProvider.fromMap(
          new Map([
            ["KEYS", ""],
            ["PRIMARY", ""]
          ])
        )
      )
    )
    assert.equal(optional._tag, "None")
  })

  test("that is wrong is named by its entry, and never shown", async () => {
    const secret = `${hex("k9")}00`
    const cases: ReadonlyArray<readonly [keys: string, expected: RegExp]> = [
      [`k1=${hex("k1")},${secret}`, /entry 2 must be id=key/],
      [`k1=${hex("k1")},k2=${secret}`, /KEYS: "the key k2 has 33 bytes: there must be 32"/],
      [`k1=${hex("k1")},k2=${hex("k2")}:${secret}`, /entry 2 k2: what stands behind the colon must be one of/],
      [`k1=${hex("k1")},k2=`, /entry 2 k2 has no key/],
      [`k1=${hex("k1")},k2=!${secret}`, /KEYS: "the key k2 must be hexadecimal or base64url"/]
    ]
    for (const [keys, expected] of cases)
      assert.match(await built({ KEYS: keys, PRIMARY: "k1" }, [secret, hex("k1"), hex("k2"), hex("k9")]), expected)
  })
})

describe("a key file", () => {
  const directory = temporaryDirectory()
  const written = (content: string, mode = 0o600): string => {
    const file = path.join(directory, `keys-${fs.readdirSync(directory).length}.json`)
    fs.writeFileSync(file, content, { mode })
    fs.chmodSync(file, mode)
    return file
  }
  const content = JSON.stringify({
    primary: "b",
    keys: [
      { id: "a", key: hex("k1"), status: "decryptOnly" },
      { id: "b", key: base64url("k2") }
    ]
  })

  test("of its owner alone is taken", async () => {
    for (const mode of [0o600, 0o400])
      assert.equal(await outcome(CryptoService.layerFile(written(content, mode))), "built")
    assert.equal(
      await outcome(CryptoService.layerFile(written(content), { policy: "ForbidEncryptAllowDecrypt" })),
      "built"
    )
  })

  test("that group or world may read or write is refused", async () => {
    for (const mode of [0o640, 0o604, 0o620, 0o602, 0o644, 0o660, 0o610])
      assert.match(await outcome(CryptoService.layerFile(written(content, mode)), [hex("k1")]), /others than its owner/)
  })

  test("that is none, or not what it should be, is refused without a word of it", async () => {
    const file = (text: string) => outcome(CryptoService.layerFile(written(text)), [hex("k1"), base64url("k2")])
    assert.match(await outcome(CryptoService.layerFile(path.join(directory, "absent"))), /could not be read: ENOENT/)
    assert.match(await outcome(CryptoService.layerFile(directory)), /is no file/)
    assert.match(await file(`${hex("k1")}\n`), /is no JSON/)
    assert.match(await file(`{"keys": "${hex("k1")}"}`), /must be an object with primary and keys/)
    assert.match(await file(`{"keys": [], "primary": "a"}`), /^keys: must not be empty/)
    assert.match(await file(`{"keys": ["${hex("k1")}"], "primary": "a"}`), /^keys\[0\].id/)
    assert.match(await file(content.replace('"b"', '"c"')), /^primary: is none of the keys/)
    assert.match(await file(content.replace(hex("k1"), hex("k1").slice(2))), /^the key a has 31 bytes, not 32/)
  })
})

describe("a provider of keys", () => {
  type Unwrap = provider.KeyProviderShape["unwrap"]
  const failure = (reason: provider.KeyProviderShape extends never ? never : "unavailable" | "denied" | "disabled") =>
    Effect.fail(new CryptoService.KeyProviderError({ operation: "unwrap", reason, detail: "said the test" }))

  /** Wraps by writing the name of the key; counts what it is asked. */
  const providerOf = (unwrap: Unwrap): Layer.Layer<CryptoService.KeyProvider> =>
    Layer.succeed(CryptoService.KeyProvider, {
      generate: () => failure("denied"),
      wrap: () => failure("denied"),
      rewrap: () => failure("denied"),
      unwrap,
      describe: Effect.succeed({ provider: "test", key: "1", nativeRewrap: false })
    })
  const named: Unwrap = (wrapped) => Effect.succeed(Redacted.make(keyBytesOf(Buffer.from(wrapped).toString())))
  const wrappedKeys = (ids: ReadonlyArray<string>) =>
    ids.map((id) => ({ id, wrapped: Buffer.from(id).toString("base64url") }))

  const using = <A, E>(
    unwrap: Unwrap,
    use: (crypto: CryptoService.CryptoServiceShape) => Effect.Effect<A, E>,
    options: Partial<CryptoService.ProviderOptions> = {}
  ) =>
    Effect.flatMap(CryptoService.CryptoService, use).pipe(
      Effect.provide(CryptoService.layerProvider({ keys: wrappedKeys(["k1", "k2"]), primary: "k1", ...options })),
      Effect.provide(providerOf(unwrap))
    )

  test("gives the key when it is needed, bound to the key's id", async () => {
    const contexts: Array<string> = []
    const unwrap: Unwrap = (wrapped, context) => {
      contexts.push(context)
      return named(wrapped, context)
    }
    const text = await Effect.runPromise(
      using(unwrap, (crypto) => Effect.flatMap(crypto.seal("here", "text"), (sealed) => crypto.open("here", sealed)))
    )
    assert.equal(Buffer.from(text).toString(), "text")
    assert.deepEqual(contexts, [CryptoService.wrapContext("k1")])
  })

  test("that is down, denies, has disabled the key or gives rubbish is a typed failure, and is asked again", async () => {
    const rubbish = (value: unknown): Effect.Effect<Redacted.Redacted<Uint8Array>> =>
      Effect.succeed(Redacted.make(value as Uint8Array))
    const cases: ReadonlyArray<readonly [ReturnType<Unwrap>, tag: string, retryable: boolean]> = [
      [failure("unavailable"), "KeyProviderError", true],
      [failure("denied"), "KeyProviderError", false],
      [failure("disabled"), "KeyDisabled", false],
      [rubbish(Buffer.alloc(31, "x")), "KeyProviderError", false],
      [rubbish(Buffer.alloc(32)), "KeyProviderError", false],
      [rubbish("text"), "KeyProviderError", false],
      [Effect.succeed(undefined as never), "KeyProviderError", false]
    ]
    for (const [given, tag, retryable] of cases) {
      let asked = 0
      const unwrap: Unwrap = (wrapped, context) => (++asked === 1 ? given : named(wrapped, context))
      const [error, after] = await Effect.runPromise(
        using(unwrap, (crypto) => Effect.all([Effect.flip(crypto.seal("here", "x")), crypto.seal("here", "x")]))
      )
      assert.equal(error._tag, tag)
      assert.equal(error.retryable, retryable)
      assert.equal(after.length, 85)
      assert.equal(asked, 2)
    }
  })

  test("that never comes back is a failure after its time, even when it cannot be interrupted, and is asked again", async () => {
    let asked = 0
    const unwrap: Unwrap = (wrapped, context) =>
      ++asked === 1 ? Effect.uninterruptible(Effect.never) : named(wrapped, context)
    const [error, after] = await Effect.runPromise(
      using(
        unwrap,
        (crypto) =>
          Effect.gen(function* () {
            const waiting = yield* Effect.fork(Effect.flip(crypto.seal("here", "x")))
            yield* TestClock.adjust("3 seconds")
            assert.equal(yield* waiting.poll.pipe(Effect.map(Option.isNone)), false)
            return [yield* waiting, yield* crypto.seal("here", "x")] as const
          }),
        { cache: { timeout: "3 seconds" } }
      ).pipe(Effect.provide(TestContext.TestContext))
    )
    assert.ok(error._tag === "KeyProviderError" && error.retryable)
    assert.match(error.message, /unwrap \(unavailable\).*k1 within 3000 ms/)
    assert.deepEqual([after.length, asked], [85, 2])
  })

  const halfDown: Unwrap = (wrapped, context) =>
    Buffer.from(wrapped).toString() === "k2" ? failure("disabled") : named(wrapped, context)

  test("that has disabled a key keeps what needs it: nothing else, and not the layer", async () => {
    const eventStore = await Effect.runPromise(EventStoreMemory.makeEncoded)
    const { encoded: cache } = await Effect.runPromise(CacheStoreMemory.makeEncoded())
    const stores = Layer.merge(
      Layer.succeed(
        EventStore.EventStore,
        EventStoreEncoded.make(eventStore, { system: "memory", pollInterval: Duration.seconds(1) })
      ),
      Layer.scoped(CacheStore.CacheStore, CacheStoreEncoded.make(cache, { system: "memory" }))
    ).pipe(CryptoService.seal)
    const under = (primary: string, unwrap: Unwrap) =>
      Layer.provide(
        Layer.provide(stores, CryptoService.layerProvider({ keys: wrappedKeys(["k1", "k2"]), primary })),
        providerOf(unwrap)
      )
    const stream = { tenantId: "acme", domain: "Account", aggregateId: "a-1" }
    const written = (name: string) =>
      Effect.gen(function* () {
        yield* (yield* EventStore.EventStore).append(stream, [{ type: "Named", data: name }], { expected: "any" })
        yield* (yield* CacheStore.CacheStore).set("acme", name, name)
      })
    await Effect.runPromise(Effect.provide(written("old"), under("k2", named)))
    await Effect.runPromise(
      Effect.gen(function* () {
        yield* written("new")
        const events = yield* EventStore.EventStore
        const cached = yield* CacheStore.CacheStore
        const found = yield* cached.getMany("acme", ["old", "new"])
        assert.deepEqual([...found], [["new", "new"]])
        assert.deepEqual(yield* cached.get("acme", "old"), Option.none())
        const newest = yield* Stream.runCollect(events.read(stream, { fromVersion: 2 }))
        assert.deepEqual(Chunk.toReadonlyArray(newest)[0]?.data, "new")
        const error = yield* Effect.flip(Stream.runDrain(events.read(stream)))
        assert.equal(error._tag, "KeyDisabled")
        assert.match(error.message, /acme\/Account\/a-1, version 1\).*k2/)
      }).pipe(Effect.provide(under("k1", halfDown)))
    )
    // Where the primary is the one, nothing is built that could seal nothing.
    assert.match(await outcome(under("k2", halfDown)), /k2.*disabled/)
  })

  test("is asked once by all who need a key at the same time, also when who came first is interrupted", async () => {
    let asked = 0
    await Effect.runPromise(
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const unwrap: Unwrap = (wrapped, context) => {
          asked++
          return Effect.zipRight(Deferred.await(gate), named(wrapped, context))
        }
        yield* using(unwrap, (crypto) =>
          Effect.gen(function* () {
            const first = yield* Effect.fork(crypto.seal("here", "x"))
            yield* Effect.yieldNow()
            const others = yield* Effect.fork(
              Effect.all(
                Array.from({ length: 50 }, () => crypto.seal("here", "x")),
                { concurrency: "unbounded" }
              )
            )
            yield* Effect.yieldNow()
            // It is slow, and who waits for it may leave.
            yield* first.interruptAsFork(first.id())
            yield* first.await
            yield* Deferred.succeed(gate, undefined)
            assert.equal((yield* others).length, 50)
          })
        )
      })
    )
    assert.equal(asked, 1)
  })

  test("10,000 openings under 100 keys ask it 100 times", async () => {
    let asked = 0
    const ids = Array.from({ length: 100 }, (_, i) => `k${i}`)
    const unwrap: Unwrap = (wrapped, context) => {
      asked++
      return named(wrapped, context)
    }
    const sealed = await Effect.runPromise(
      Effect.forEach(ids, (id) =>
        Effect.flatMap(CryptoService.CryptoService, (crypto) => crypto.seal("here", id)).pipe(
          Effect.provide(CryptoService.layer(ringOf(id)))
        )
      )
    )
    await Effect.runPromise(
      using(
        unwrap,
        (crypto) =>
          Effect.forEach(
            Array.from({ length: 10_000 }, (_, i) => sealed[i % 100] as Uint8Array),
            (bytes) => crypto.open("here", bytes),
            { concurrency: 50 }
          ),
        { keys: wrappedKeys(ids), primary: "k0" }
      )
    )
    assert.equal(asked, 100)
  })

  test("a key is unwrapped again after its lifetime, after its uses, and when the cache is full", async () => {
    let asked: Array<string> = []
    const unwrap: Unwrap = (wrapped, context) => {
      asked.push(Buffer.from(wrapped).toString())
      return named(wrapped, context)
    }
    const seal = (crypto: CryptoService.CryptoServiceShape) => crypto.seal("here", "x")
    const run = (body: (crypto: CryptoService.CryptoServiceShape) => Effect.Effect<unknown, unknown>, cache: object) =>
      Effect.runPromise(Effect.provide(using(unwrap, body, { cache }), TestContext.TestContext))

    await run(
      (crypto) =>
        Effect.all([
          seal(crypto),
          TestClock.adjust("59 seconds"),
          seal(crypto),
          TestClock.adjust("1 second"),
          seal(crypto)
        ]),
      { lifetime: "1 minute" }
    )
    assert.deepEqual(asked, ["k1", "k1"])

    asked = []
    await run((crypto) => Effect.all(Array.from({ length: 7 }, () => seal(crypto))), { uses: 3 })
    assert.deepEqual(asked, ["k1", "k1", "k1"])

    asked = []
    const other = await Effect.runPromise(
      Effect.flatMap(CryptoService.CryptoService, seal).pipe(Effect.provide(CryptoService.layer(ringOf("k2"))))
    )
    await run((crypto) => Effect.all([seal(crypto), crypto.open("here", other), seal(crypto)]), { size: 1 })
    assert.deepEqual(asked, ["k1", "k2", "k1"])
  })

  test("names what it refuses of its options", async () => {
    const built = (options: object) =>
      outcome(
        Layer.provide(
          CryptoService.layerProvider({ keys: wrappedKeys(["k1"]), primary: "k1", ...options }),
          providerOf(named)
        )
      )
    assert.match(await built({ cache: { lifetime: "soon" } }), /^cache.lifetime/)
    assert.match(await built({ cache: { lifetime: 0 } }), /^cache.lifetime: must be greater than zero/)
    assert.match(await built({ cache: { size: 0 } }), /^cache.size/)
    assert.match(await built({ cache: { uses: 0.5 } }), /^cache.uses/)
    assert.match(await built({ keys: [{ id: "k1", wrapped: "?" }] }), /^the wrapped key k1: must be base64url/)
    assert.match(await built({ primary: "k2" }), /^primary: is none of the keys/)
  })
})
