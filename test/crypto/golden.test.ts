/**
 * Our own known answers, frozen: what version 0.1.0 has sealed opens for ever, here and in a decoder that shares no line
 * with us. The file is written by freeze.ts, once.
 */
import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import { Chunk, Effect, Stream } from "effect"
import { SubjectKeysMemory } from "effect-stores/memory"
import { describe, test } from "vitest"
import { cacheCodec } from "../../src/crypto/cacheStore.js"
import { objectCodec } from "../../src/crypto/dataStore.js"
import { type Context, encode } from "../../src/crypto/formats/context.js"
import * as envelope from "../../src/crypto/formats/envelope.js"
import * as floe from "../../src/crypto/formats/floe.js"
import * as object from "../../src/crypto/formats/object.js"
import { atOnce } from "../../src/crypto/formats/steps.js"
import { make } from "../../src/crypto/keys/key.js"
import * as ring from "../../src/crypto/keys/ring.js"
import type { Cipher } from "../../src/crypto/sealer.js"
import { HeldKeys } from "../../src/crypto/subjects/keys.js"
import { refOf } from "../../src/crypto/subjects/rules.js"
import { finding, keyOf, ringOf } from "./fixtures.js"

interface Frozen {
  readonly format: "R1" | "O1"
  readonly name: string
  readonly keyId: string
  readonly key: string
  readonly context: Context
  readonly plaintext?: string
  readonly plaintextSha256?: string
  readonly sealed: string
}

const read = (file: string): ReadonlyArray<Frozen> =>
  JSON.parse(fs.readFileSync(fileURLToPath(new URL(`../golden/${file}`, import.meta.url)), "utf8"))

const formats = read("crypto-v1.json")
const places = read("crypto-places-v1.json")
const frozen = [...formats, ...places]

const isRight = ({ plaintext, plaintextSha256 }: Frozen, bytes: Uint8Array): boolean =>
  plaintext === undefined
    ? createHash("sha256").update(bytes).digest("hex") === plaintextSha256
    : Buffer.from(plaintext).equals(bytes)

const place = () => "frozen"

describe("what was sealed once opens for ever", () => {
  test("the frozen files are those that were written with the formats", () => {
    const digestOf = (items: ReadonlyArray<Frozen>) => createHash("sha256").update(JSON.stringify(items)).digest("hex")
    assert.deepEqual([formats, places].map(digestOf), [
      "614b31c326ec5aaa49d0465a3a41a0e5b5ae3a529945fb4d58295e06596bc665",
      "c083a14cefcc031b3c0a53eedbed4c6dd768171a04b5b62a9ad5835966889782"
    ])
    assert.ok(frozen.length >= 40)
  })

  for (const item of frozen) {
    test(item.name, async () => {
      const find = finding(make(item.keyId, Buffer.from(item.key, "hex")))
      const sealed = Buffer.from(item.sealed, "base64url")
      if (item.format === "R1") {
        const opened = envelope.open(find, encode(item.context), sealed, place)
        assert.ok(Buffer.isBuffer(opened), String(opened))
        assert.ok(isRight(item, opened))
        return
      }
      const own = object.unwrap(find, encode(item.context), sealed, place)
      assert.ok(!("_tag" in own), String(own))
      const body = object.openBody(
        {
          object: own,
          keyId: item.keyId,
          bodyHeader: sealed.subarray(object.headerBytes, object.headBytes),
          place
        },
        Stream.make(sealed.subarray(object.headBytes))
      )
      const opened = Buffer.concat(Chunk.toReadonlyArray(await Effect.runPromise(Stream.runCollect(body))))
      assert.ok(isRight(item, opened))
      assert.equal(object.plainLength(sealed.length), opened.length)
      assert.equal(sealed.length - object.headerBytes - floe.headerBytes, sealed.length - object.headBytes)
    })
  }
})

describe("the places of stores are those that were frozen", () => {
  const itemOf = (name: string): Frozen => {
    const found = places.find((item) => item.name === name)
    assert.ok(found !== undefined)
    return found
  }
  const keyIn = ({ key, keyId }: Frozen) => make(keyId, Buffer.from(key, "hex"))
  const store = itemOf("cached value k0").context.store as string
  const cipher: Cipher = {
    ring: Effect.runSync(Effect.orDie(ring.make(ringOf("k0", "k1")))),
    policy: "RequireEncrypt",
    watermark: { events: 0, commands: 0, createdUntilMs: 0 },
    subjects: undefined
  }

  for (const keyId of ["k0", "00ff00ff00ff00ff"]) {
    test(`of cached values and of objects, under ${keyId}`, () => {
      const cached = itemOf(`cached value ${keyId}`)
      const find = finding(keyIn(cached))
      const entry = { tenantId: "acme", key: "customer:c-7", value: cached.sealed, keyId }
      assert.equal(atOnce(cacheCodec(cipher, store).open(entry, find)), cached.plaintext)

      const object = itemOf(`object in a store ${keyId}`)
      const metadata = itemOf(`metadata of an object ${keyId}`)
      const checksums = itemOf(`checksums of an object ${keyId}`)
      const whole = Buffer.from(object.sealed, "base64url")
      const { bucket, object: name, type, write } = object.context
      const row = {
        bucket: bucket as string,
        name: name as string,
        contentType: type as string,
        metadata: `${whole.subarray(0, 266).toString("base64url")}.${metadata.sealed}`,
        keyId,
        checksums: checksums.sealed,
        size: whole.length,
        writeId: write as string,
        etag: "",
        modifiedAt: 0
      }
      const opened = objectCodec(cipher, store).open(row, keyId, find)
      assert.ok("object" in opened, String(opened))
      assert.deepEqual([opened.object.metadata, opened.object.size], [metadata.plaintext, 1000])
    })
  }

  test("of a subject's key, and its reference", async () => {
    const { context, keyId, sealed } = itemOf("key of a subject")
    const ref = refOf({ tenantId: "acme", id: "c-7" })
    assert.equal(context.subject, ref)
    const id = context.key as string
    const row = { ref, keyId: id, wrapped: sealed, wrappedBy: keyId, createdAt: 0, shreddedAt: null }
    const port = { ...(await Effect.runPromise(SubjectKeysMemory.makeEncoded)), find: () => Effect.succeed([row]) }
    const keys = new HeldKeys(port, cipher.ring, store, 1_000, 1_000)
    const key = (await Effect.runPromise(keys.finding([id])))(id, place)
    assert.ok("check" in key, String(key))
    assert.equal(key.check, keyOf(id).check)
  })
})

test("a header without a key has its frozen bytes, and is no key header", () => {
  const header = object.keyless({ id: Buffer.from("000102030405060708090a0b0c0d0e0f", "hex") })
  const expected = "8946534f310d0a1a010104000000000000000000000102030405060708090a0b0c0d0e0f"
  assert.equal(header.toString("hex"), expected.padEnd(192 * 2, "0"))
  const found = object.keyIdOf(header, place)
  assert.ok(typeof found !== "string" && found._tag === "UnsupportedFormat")
})

const python = spawnSync("python3", ["-c", "import ctypes.util; print(ctypes.util.find_library('crypto'))"])
const hasPython = python.status === 0 && String(python.stdout).trim() !== "None"

describe.skipIf(!hasPython)("an independent decoder (skipped without python3 and libcrypto)", () => {
  const decode = (items: ReadonlyArray<Pick<Frozen, "format" | "key" | "context" | "sealed">>) => {
    const input = items.map((item) => JSON.stringify(item)).join("\n")
    const program = fileURLToPath(new URL("decode.py", import.meta.url))
    const { stderr, stdout } = spawnSync("python3", [program], { input: `${input}\n`, maxBuffer: 2 ** 28 })
    assert.equal(String(stderr), "")
    return String(stdout)
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { readonly plaintext?: string; readonly error?: string })
  }

  test("opens all that is frozen", () => {
    const results = decode(frozen)
    assert.equal(results.length, frozen.length)
    for (const [i, item] of frozen.entries())
      assert.ok(isRight(item, Buffer.from(results[i]?.plaintext ?? "none", "hex")), item.name)
  })

  test("opens what is sealed now, and refuses another context", () => {
    const key = Buffer.from(frozen[0]?.key as string, "hex")
    const items = Array.from({ length: 200 }, (_, i) => {
      const context: Context = { kind: "own", key: `place ${i}` }
      const plaintext = `${"ü🔑".repeat(i)}${i}`
      const sealed = envelope.seal(make("k9", key), encode(context), plaintext).toString("base64url")
      return { format: "R1" as const, key: key.toString("hex"), context, plaintext, sealed }
    })
    for (const [i, { plaintext }] of decode(items).entries())
      assert.equal(Buffer.from(plaintext ?? "", "hex").toString(), items[i]?.plaintext)
    const moved = decode(items.map((item) => ({ ...item, context: { kind: "own", key: "elsewhere" } })))
    assert.ok(moved.every(({ error }) => error === "tampered"))
  })
})
