/**
 * Nonces of several processes: none comes twice.
 */
import assert from "node:assert/strict"
import * as fs from "node:fs"
import * as path from "node:path"
import { describe, test } from "vitest"
import { nonceBytes } from "../../src/crypto/formats/envelope.js"
import { temporaryDirectory } from "../support/backends.js"
import { spawnWorker } from "../support/child.js"
import { isFull } from "../support/scale.js"

const processes = 4
const each = isFull ? 2_500_000 : 50_000

/** The first of these that comes again. Their first 8 bytes are sorted, and only where those are equal, all are held. */
const repeated = (nonces: Buffer): string | undefined => {
  const count = nonces.length / nonceBytes
  const begins = new BigUint64Array(count)
  for (let i = 0; i < count; i++) begins[i] = nonces.readBigUInt64BE(i * nonceBytes)
  begins.sort()
  const twice = new Set(begins.filter((begin, i) => i > 0 && begin === begins[i - 1]))
  if (twice.size === 0) return undefined
  const seen = new Set<string>()
  for (let at = 0; at < nonces.length; at += nonceBytes) {
    if (!twice.has(nonces.readBigUInt64BE(at))) continue
    const nonce = nonces.toString("hex", at, at + nonceBytes)
    if (seen.has(nonce)) return nonce
    seen.add(nonce)
  }
  return undefined
}

describe(`${processes * each} records of ${processes} processes`, { timeout: isFull ? 3_600_000 : 300_000 }, () => {
  test("have as many nonces", async () => {
    const directory = temporaryDirectory()
    const program = new URL("../workers/nonces.ts", import.meta.url)
    const files = Array.from({ length: processes }, (_, n) => path.join(directory, `${n}`))
    const workers = files.map((file, n) =>
      spawnWorker(program, { args: [file, String(each), n % 2 === 0 ? "pooled" : "direct"] })
    )
    for (const { exited } of workers) {
      const { code, stderr } = await exited
      assert.equal(code, 0, stderr)
    }
    const nonces = Buffer.concat(files.map((file) => fs.readFileSync(file)))
    assert.equal(nonces.length, processes * each * nonceBytes)
    assert.equal(repeated(nonces), undefined)
  })

  test("would be told from such where one comes twice", () => {
    const nonces = Buffer.alloc(4 * nonceBytes)
    for (let n = 0; n < 4; n++) nonces.writeUInt8(n, n * nonceBytes + 20)
    // Their first 8 bytes are equal.
    assert.equal(repeated(nonces), undefined)
    nonces.copy(nonces, 3 * nonceBytes, nonceBytes, 2 * nonceBytes)
    assert.equal(repeated(nonces), nonces.toString("hex", nonceBytes, 2 * nonceBytes))
  })
})
