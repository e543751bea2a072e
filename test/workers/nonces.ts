/**
 * Seals many records, and writes the nonce of each to a file. Arguments: the file, how many, and `pooled` or `direct`.
 */
import * as fs from "node:fs"
import * as envelope from "../../src/crypto/formats/envelope.js"
import * as nonces from "../../src/crypto/formats/nonces.js"
import { keyOf } from "../crypto/fixtures.js"

const [file = "", count = "0", source] = process.argv.slice(2)
if (source === "direct") nonces.setDirect(true)

const key = keyOf("k1")
const context = Buffer.from("place")
const perWrite = 10_000
const out = fs.openSync(file, "w")
for (let left = Number(count); left > 0; left -= perWrite) {
  const some = Buffer.allocUnsafe(Math.min(perWrite, left) * envelope.nonceBytes)
  for (let at = 0; at < some.length; at += envelope.nonceBytes)
    envelope.seal(key, context, "").copy(some, at, 12, 12 + envelope.nonceBytes)
  fs.writeSync(out, some)
}
fs.closeSync(out)
