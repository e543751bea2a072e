/**
 * Layers of stores, sealed with keys of the tests, and how many random cases they are held against here: the whole number
 * is for the plain stores, and for the full run.
 */
import { Layer } from "effect"
import { CryptoService } from "effect-stores"
import { ringOf } from "../crypto/fixtures.js"
import { isFull } from "../support/scale.js"

export const crypto = CryptoService.layer(ringOf("k1"))

export const sealed = <A, E, R>(layer: Layer.Layer<A, E, R>) => Layer.provide(CryptoService.seal(layer), crypto)

export const badInput = { cases: isFull ? 10_000 : 500 }
export const model = { runs: isFull ? 300 : 20 }

/** Objects: random names, what a damaged one is called, and where a byte of the plaintext is. */
export const names = { names: isFull ? 10_000 : 100, timeoutMs: 3_600_000 }
export const damaged = { error: "Tampered", pieceBytes: 65_504 } as const
export const sealedAt = (offset: number): number => 266 + Math.floor(offset / 65_504) * 65_536 + 16 + (offset % 65_504)
