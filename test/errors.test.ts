/**
 * What the errors that all stores share tell a caller about trying again.
 */
import { Effect } from "effect"
import { CacheStore, Errors, EventStore } from "effect-stores"
import { describe, expect, it } from "vitest"

const cause = new Error("the driver's")
const unavailable = new Errors.StoreUnavailable({ operation: "append", retryable: true, cause })
const lasting = new Errors.StoreUnavailable({ operation: "append", retryable: false, cause })
const timeout = new Errors.PoolTimeout({ waitedMs: 1, open: 1, waiting: 0 })
const unknown = new Errors.CommitOutcomeUnknown({ operation: "COMMIT", cause })
const failed = new Errors.StoreError({ operation: "append", cause })
const slow = new CacheStore.LoadTimeout({ tenantId: "acme", key: "k", timeoutMs: 1 })

describe("whether to try again", () => {
  it("what was not done and may succeed later is retryable; what may have been done is not", () => {
    const retryable = [timeout, unavailable, slow, lasting, unknown, failed].map(Errors.isRetryable)
    expect(retryable).toEqual([true, true, true, false, false, false])
  })

  it("what may have been done is repeatable by who knows the call to be idempotent", () => {
    const repeatable = [timeout, unavailable, lasting, unknown, failed].map(Errors.isRepeatable)
    expect(repeatable).toEqual([true, true, false, true, false])
  })

  it("an error around one of a store is transient as that is, and a circle of causes ends", () => {
    const around = (cause: unknown) => new Error("around", { cause })
    const circle = around(undefined)
    circle.cause = circle
    const errors = [timeout, around(unknown), around(around(unavailable)), failed, around(lasting), circle, null, "no"]
    expect(errors.map(Errors.isTransient)).toEqual([true, true, true, false, false, false, false, false])
  })

  it("a generic retry does not run a transaction again whose COMMIT may have happened", async () => {
    let runs = 0
    const transaction = Effect.suspend(() => {
      runs++
      return Effect.fail(unknown)
    })
    const error = await Effect.runPromise(
      Effect.flip(Effect.retry(transaction, { while: Errors.isRetryable, times: 3 }))
    )
    expect(error).toBe(unknown)
    expect(runs).toBe(1)
  })

  it("what is no error of a store, and no object, is neither", () => {
    for (const error of [undefined, null, "retryable", new Error("x"), { retryable: "true" }, cause]) {
      expect([Errors.isRetryable(error), Errors.isRepeatable(error)]).toEqual([false, false])
    }
  })
})

describe("isStoreFailure", () => {
  it("knows how a backend fails, and nothing else", () => {
    expect([timeout, unavailable, unknown, failed].every(Errors.isStoreFailure)).toBe(true)
    const others = [
      cause,
      undefined,
      { _tag: "StoreError" },
      new Errors.InvalidInput({ what: "stream", why: "must be an object" }),
      new EventStore.DuplicateEvent({ id: "1", why: "elsewhere" }),
      Object.assign(new Error("x"), { _tag: "toString" })
    ]
    expect(others.some(Errors.isStoreFailure)).toBe(false)
  })
})
