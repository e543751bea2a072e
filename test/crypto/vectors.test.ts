/**
 * Known answers of others: AES-GCM and HKDF of Wycheproof, FLOE of its four implementations. All of them where they are
 * at hand, beside this repository; a handful are carried in it.
 */
import assert from "node:assert/strict"
import { createHmac } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { describe, test } from "vitest"
import * as floe from "../../src/crypto/formats/floe.js"
import { expandBlock, gcmOpen, gcmSeal } from "../../src/crypto/formats/primitives.js"

interface GcmCase {
  readonly tcId: number
  readonly key: string
  readonly iv: string
  readonly aad: string
  readonly msg: string
  readonly ct: string
  readonly tag: string
  readonly result: string
}

interface HkdfCase {
  readonly tcId: number
  readonly ikm: string
  readonly salt: string
  readonly info: string
  readonly size: number
  readonly okm: string
  readonly result: string
}

interface FloeCase {
  readonly name: string
  readonly ciphertext: string
  readonly plaintext: string
}

const carried = JSON.parse(fs.readFileSync(new URL("../golden/crypto-standard.json", import.meta.url), "utf8")) as {
  readonly aesGcm: ReadonlyArray<GcmCase>
  readonly hkdfSha512: ReadonlyArray<HkdfCase>
  readonly floe: ReadonlyArray<FloeCase>
}

const beside = fileURLToPath(new URL("../../../shared/data", import.meta.url))
const isBeside = fs.existsSync(beside)
const hex = (text: string): Buffer => Buffer.from(text, "hex")

interface Group<T> {
  readonly testGroups: ReadonlyArray<{
    readonly keySize: number
    readonly ivSize: number
    readonly tests: ReadonlyArray<T>
  }>
}
const wycheproof = <T>(name: string) =>
  (JSON.parse(fs.readFileSync(path.join(beside, "wycheproof", name), "utf8")) as Group<T>).testGroups

const gcmCase = ({ aad, ct, iv, key, msg, result, tag, tcId }: GcmCase) => {
  const opened = gcmOpen(hex(key), hex(iv), [hex(aad)], hex(ct), hex(tag))
  assert.equal(opened?.toString("hex"), result === "valid" ? msg : undefined, `case ${tcId}`)
  if (result !== "valid") return
  const out = Buffer.alloc((ct.length + tag.length) / 2)
  // In two pieces, as the formats give it.
  gcmSeal(hex(key), hex(iv), [hex(aad).subarray(0, 3), hex(aad).subarray(3)], hex(msg), out, 0)
  assert.equal(out.toString("hex"), ct + tag, `case ${tcId}`)
}

/** The block that the formats take is the first of HKDF-Expand. */
const hkdfCase = (hash: "sha256" | "sha512", { ikm, info, okm, result, salt, size, tcId }: HkdfCase) => {
  if (result !== "valid") return
  const length = hash === "sha256" ? 32 : 64
  const extracted = createHmac(hash, salt === "" ? Buffer.alloc(length) : hex(salt))
    .update(hex(ikm))
    .digest()
  const block = expandBlock(hash, extracted, [hex(info)])
  const known = Math.min(size, length)
  assert.equal(block.subarray(0, known).toString("hex"), okm.slice(0, known * 2), `case ${tcId}`)
}

const aad = Buffer.from("This is AAD")

/** Of the files named `rotation` the span of a segment key is another, which their ciphertext does not tell. */
const floeCase = ({ ciphertext, name, plaintext }: FloeCase) => {
  const bytes = hex(ciphertext)
  const key = Buffer.alloc(32)
  const spans = name.includes("rotation") ? [0, 1, 2, 3, 4] : [20]
  const results = spans.map((rotationBits) => {
    const parameters = { segmentBytes: bytes.readUInt32BE(2), rotationBits }
    const message = floe.Message.resume(key, aad, parameters, bytes.subarray(0, floe.headerBytes))
    assert.ok(message !== undefined, `${name}: the header`)
    const opener = new floe.Opener(message)
    const opened = opener.push(bytes.subarray(floe.headerBytes))
    if (typeof opened === "string" || opener.end() !== undefined) return undefined
    assert.equal(
      floe.plainLength(parameters, bytes.length - floe.headerBytes),
      plaintext.length / 2,
      `${name}: its length`
    )
    return Buffer.concat(opened).toString("hex")
  })
  assert.ok(results.includes(plaintext.toLowerCase()), name)
}

describe("known answers of others, carried here", () => {
  test("AES-256-GCM of Wycheproof", () => carried.aesGcm.forEach(gcmCase))
  test("HKDF of Wycheproof", () => carried.hkdfSha512.forEach((one) => hkdfCase("sha512", one)))
  test("FLOE", () => carried.floe.forEach(floeCase))
})

describe.skipIf(!isBeside)("known answers of others, all (skipped where ../shared/data is not at hand)", () => {
  test("AES-256-GCM of Wycheproof, keys of 256 and nonces of 96 bits", () => {
    const cases = wycheproof<GcmCase>("aes_gcm_test.json")
      .filter(({ ivSize, keySize }) => keySize === 256 && ivSize === 96)
      .flatMap(({ tests }) => tests)
    assert.equal(cases.length, 66)
    cases.forEach(gcmCase)
  })

  for (const hash of ["sha256", "sha512"] as const) {
    test(`HKDF-${hash} of Wycheproof`, () => {
      const cases = wycheproof<HkdfCase>(`hkdf_${hash}_test.json`).flatMap(({ tests }) => tests)
      assert.ok(cases.length > 80)
      for (const one of cases) hkdfCase(hash, one)
    })
  }

  test("FLOE of the C++, Go, Java and Rust implementations", () => {
    const folder = path.join(beside, "floe-kats")
    const read = (name: string) => fs.readFileSync(path.join(folder, name), "utf8").trim()
    const names = fs.readdirSync(folder).flatMap((file) => /^(.*)_ct\.txt$/.exec(file)?.[1] ?? [])
    assert.equal(names.length, 17)
    for (const name of names) floeCase({ name, ciphertext: read(`${name}_ct.txt`), plaintext: read(`${name}_pt.txt`) })
  })
})
