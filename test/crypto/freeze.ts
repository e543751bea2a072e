/**
 * Writes the frozen known answers, once for a format, with fixed keys and nonces: test/golden/crypto-v1.json for the
 * formats, and test/golden/crypto-places-v1.json for the places in a store that the first one lacks. A file that is
 * there is never changed, because what it holds must open for ever.
 */
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import { type Context, encode } from "../../src/crypto/formats/context.js"
import * as envelope from "../../src/crypto/formats/envelope.js"
import * as floe from "../../src/crypto/formats/floe.js"
import * as object from "../../src/crypto/formats/object.js"
import { contexts, keyBytesOf, keyOf } from "./fixtures.js"

const bytesOf = (name: string, length: number): Buffer =>
  createHash("shake256", { outputLength: length }).update(name).digest()

const plaintexts: ReadonlyArray<string> = [
  "",
  "{}",
  "null",
  JSON.stringify({ amount: 12.5, note: "grüße 🌍", nested: { deep: [1, 2, 3] } }),
  JSON.stringify({ text: "x".repeat(1000) }),
  JSON.stringify(Array.from({ length: 700 }, (_, i) => `item ${i}`))
]

const records = Object.entries(contexts).flatMap(([kind, context], i) =>
  plaintexts.flatMap((plaintext, j) =>
    (["ring", "subject"] as const)
      .filter((flavour) => flavour === "ring" || j === 3)
      .map((flavour) => {
        const keyId = flavour === "ring" ? `k${(i + j) % 3}` : "00ff00ff00ff00ff"
        const key = keyOf(keyId)
        const nonce = bytesOf(`nonce ${kind} ${j} ${flavour}`, 24)
        return {
          format: "R1",
          name: `${kind} ${j} ${flavour}`,
          keyId,
          key: keyBytesOf(keyId).toString("hex"),
          context,
          plaintext,
          sealed: envelope.seal(key, encode(context), plaintext, nonce).toString("base64url")
        }
      })
  )
)

const objectOf = (length: number, keyId: string, place: Context) => {
  const own = { id: bytesOf(`object ${length}`, 16), key: bytesOf(`object key ${length}`, 32) }
  const header = object.wrap(keyOf(keyId), encode(place), own, bytesOf(`object nonce ${length}`, 24))
  const message = floe.Message.begin(own.key, object.bodyAad(own), object.parameters, bytesOf(`iv ${length}`, 32))
  const plaintext = bytesOf(`plaintext ${length}`, length)
  const segments = Math.max(1, Math.ceil(length / 65_504))
  const body = Array.from({ length: segments }, (_, n) =>
    message.seal(
      n,
      plaintext.subarray(n * 65_504, (n + 1) * 65_504),
      n === segments - 1,
      bytesOf(`segment ${length} ${n}`, 12)
    )
  )
  return {
    format: "O1",
    name: `object of ${length}`,
    keyId,
    key: keyBytesOf(keyId).toString("hex"),
    context: place,
    // As its length and hash: random bytes make no file smaller.
    plaintextBytes: length,
    plaintextSha256: createHash("sha256").update(plaintext).digest("hex"),
    sealed: Buffer.concat([header, message.header, ...body]).toString("base64url")
  }
}

const objects = [0, 1, 1000, 65_504, 65_505].map((length, i) =>
  objectOf(length, `k${i % 3}`, contexts.object as Context)
)

const store = "0f0e0d0c-0b0a-4908-8706-050403020100"
const objectPlace = {
  kind: "object",
  store,
  type: "text/plain; charset=utf-8",
  bucket: "documents",
  object: "statements/2026-11 ключ.pdf",
  write: "0198c0de-0000-7000-8000-000000000004"
}
const subjectId = "00ff00ff00ff00ff"
const reference = createHash("sha256")
  .update(encode({ kind: "subject", tenant: "acme", subject: "c-7" }))
  .digest("hex")

const placed = (name: string, keyId: string, context: Context, plaintext: string) => ({
  format: "R1",
  name,
  keyId,
  key: keyBytesOf(keyId).toString("hex"),
  context,
  plaintext,
  sealed: envelope.seal(keyOf(keyId), encode(context), plaintext, bytesOf(`nonce ${name}`, 24)).toString("base64url")
})

/** A key of 32 bytes, which is no text. */
const subjectKey = () => {
  const bytes = keyBytesOf(subjectId)
  const context = { kind: "subject", store, key: subjectId, subject: reference }
  const sealed = envelope.seal(keyOf("k1"), encode(context), bytes, bytesOf("nonce subject key", 24))
  return {
    format: "R1",
    name: "key of a subject",
    keyId: "k1",
    key: keyBytesOf("k1").toString("hex"),
    context,
    plaintextSha256: createHash("sha256").update(bytes).digest("hex"),
    sealed: sealed.toString("base64url")
  }
}

const cachePlace = { kind: "cache", store, tenant: "acme", key: "customer:c-7" }

const places = () => [
  ...["k0", subjectId].flatMap((keyId) => [
    placed(`cached value ${keyId}`, keyId, cachePlace, '{"name":"grüße 🌍"}'),
    placed(`metadata of an object ${keyId}`, keyId, { ...objectPlace, field: "metadata" }, '{"customer":"c-7"}'),
    placed(`checksums of an object ${keyId}`, keyId, { ...objectPlace, field: "checksums" }, `1000.${"0f".repeat(32)}`),
    {
      ...objectOf(1000, keyId, { ...objectPlace, field: "header" }),
      name: `object in a store ${keyId}`
    }
  ]),
  subjectKey()
]

const write = (file: string, items: ReadonlyArray<object>): void => {
  const path = fileURLToPath(new URL(`../golden/${file}`, import.meta.url))
  if (!fs.existsSync(path)) fs.writeFileSync(path, `${JSON.stringify(items, null, 1)}\n`, { flag: "wx" })
}

write("crypto-v1.json", [...records, ...objects])
write("crypto-places-v1.json", places())
