/**
 * Writes test/golden/crypto-v1.json, once for a format: known answers with fixed keys and nonces. A file that is there is
 * never changed, because what it holds must open for ever.
 */
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import { encode } from "../../src/crypto/formats/context.js"
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

const objects = [0, 1, 1000, 65_504, 65_505].map((length, i) => {
  const keyId = `k${i % 3}`
  const place = contexts.object as (typeof contexts)[string]
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
})

const file = fileURLToPath(new URL("../golden/crypto-v1.json", import.meta.url))
fs.writeFileSync(file, `${JSON.stringify([...records, ...objects], null, 1)}\n`, { flag: "wx" })
