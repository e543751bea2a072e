/**
 * Random bytes for nonces. One call of the generator for many nonces costs a thirtieth of one for each. What a virtual
 * machine is cloned or restored with includes this pool, so for such platforms it can be switched off.
 */
import { randomBytes, randomFillSync } from "node:crypto"

/** Small, so that few bytes are lost with a process and few are ever known ahead. */
const poolBytes = 4032

let pool: Buffer | undefined
let at = poolBytes

/** Fills `length` bytes of the target from `offset` on. Bytes handed out are gone from the pool. */
export const fill = (target: Buffer, offset: number, length: number): void => {
  if (isDirect) {
    randomFillSync(target, offset, length)
    return
  }
  if (pool === undefined || at + length > poolBytes) {
    pool ??= Buffer.allocUnsafeSlow(poolBytes)
    randomFillSync(pool)
    at = 0
  }
  pool.copy(target, offset, at, at + length)
  pool.fill(0, at, at + length)
  at += length
}

/** For what is made rarely. */
export const fresh = (length: number): Buffer => randomBytes(length)

let isDirect = false

/** Whether each nonce is asked of the generator on its own. */
export const setDirect = (direct: boolean): void => {
  isDirect = direct
}
