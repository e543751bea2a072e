/**
 * How long sealing and opening a large record hold the event loop: the longest step of each, the best of eight rounds,
 * since the collector of garbage has its turns too. `npx tsx bench/crypto/turns.ts`.
 */
import { performance } from "node:perf_hooks"
import type { FindKey } from "../../src/crypto/formats/envelope.js"
import type { Steps } from "../../src/crypto/formats/steps.js"
import { make } from "../../src/crypto/keys/key.js"
import { openText, sealText } from "../../src/crypto/sealer.js"

const key = make("k1", Buffer.alloc(32, 1))
const find: FindKey = () => key
const context = Buffer.alloc(100, 2)
const rounds = 8

interface Longest {
  stepMs: number
  wholeMs: number
}

const run = <A>(steps: Steps<A>, best: Longest): A => {
  let stepMs = 0
  const begunAt = performance.now()
  for (;;) {
    const at = performance.now()
    const step = steps.next()
    stepMs = Math.max(stepMs, performance.now() - at)
    if (!step.done) continue
    best.stepMs = Math.min(best.stepMs, stepMs)
    best.wholeMs = Math.min(best.wholeMs, performance.now() - begunAt)
    return step.value
  }
}

const none = (): Longest => ({ stepMs: Number.POSITIVE_INFINITY, wholeMs: Number.POSITIVE_INFINITY })
const shown = ({ stepMs, wholeMs }: Longest) => `${stepMs.toFixed(1)} ms of ${wholeMs.toFixed(0)} ms`

for (const [name, character] of [
  ["ASCII", "x"],
  ["two bytes each", "ü"],
  ["three bytes each", "漢"]
] as const) {
  for (const mib of [1, 4, 16]) {
    const text = character.repeat((mib * 2 ** 20) / Buffer.byteLength(character))
    const seals = none()
    const opens = none()
    for (let round = 0; round < rounds; round++) {
      const sealed = run(sealText(key, context, text), seals)
      // as a driver gives it: in one piece
      const stored = Buffer.from(sealed, "latin1").toString("latin1")
      if (run(openText(find, "k1", context, stored, String), opens) !== text)
        throw new Error("opened as something else")
    }
    console.log(`${mib} MiB, ${name}: seal ${shown(seals)}, open ${shown(opens)}`)
  }
}
