/**
 * Envelopes of records (R1): whatever is done to one, it opens as what was sealed or not at all, with an error that says
 * why, which key and where.
 */
import assert from "node:assert/strict"
import { Effect, Fiber, FastCheck as fc } from "effect"
import { CryptoService } from "effect-stores"
import { describe, test } from "vitest"
import { type Context, type ContextField, encode } from "../../src/crypto/formats/context.js"
import * as envelope from "../../src/crypto/formats/envelope.js"
import { atOnce, inTurns, type Steps, stepBytes } from "../../src/crypto/formats/steps.js"
import * as sealer from "../../src/crypto/sealer.js"
import { turn } from "../../src/internal/fibers.js"
import { contexts, finding, keyOf, ringOf } from "./fixtures.js"

const key = keyOf("k1")
const find = finding(key)
const place = () => "the place"
const context = encode(contexts.event as Context)

const sealText = (...args: Parameters<typeof sealer.sealText>) => atOnce(sealer.sealText(...args))
const openText = (...args: Parameters<typeof sealer.openText>) => atOnce(sealer.openText(...args))

/** What `open` makes of it: the plaintext as text, or the tag of its error. */
const opened = (bytes: Buffer, where: Uint8Array = context, keys = find): string => {
  const result = envelope.open(keys, where, bytes, place)
  if (Buffer.isBuffer(result)) return `opened ${result.toString("utf8")}`
  assert.ok(result.message.includes("the place"))
  assert.ok(!("keyId" in result) || /^[A-Za-z0-9._-]{1,8}$|^[0-9a-f]{16}$/.test(result.keyId))
  return result._tag
}

describe("an envelope", () => {
  test("has 84 bytes more than its text", () => {
    for (const text of ["", "x", "ü", "🔑".repeat(100)]) {
      assert.equal(envelope.seal(key, context, text).length, Buffer.byteLength(text) + 84)
      assert.equal(envelope.seal(key, context, Buffer.from(text)).length, Buffer.byteLength(text) + 84)
    }
  })

  test("of any text opens as that text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 300 }), (text) => {
        const sealed = sealText(key, context, text)
        assert.match(sealed, /^[A-Za-z0-9_-]+$/)
        assert.equal(openText(find, "k1", context, sealed, place), text)
      }),
      { numRuns: 1000 }
    )
  })

  test("with any one bit flipped never opens: all 8,864 of one of 1 KiB", () => {
    const sealed = envelope.seal(key, context, "p".repeat(1024))
    const seen = new Map<string, number>()
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const flipped = Buffer.from(sealed)
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7))
      const result = opened(flipped)
      seen.set(result, (seen.get(result) ?? 0) + 1)
      const byte = bit >> 3
      // What begins an envelope; the id of the key; what derives the key, and commits to it; what is encrypted.
      const expected =
        byte < 3
          ? ["UnsupportedFormat"]
          : byte === 3
            ? ["UnsupportedFormat", "UnknownKeyId"]
            : byte < 12
              ? ["UnknownKeyId", "UnsupportedFormat"]
              : byte < 68
                ? ["WrongKey"]
                : ["Tampered"]
      assert.ok(expected.includes(result), `bit ${bit}: ${result}`)
    }
    assert.equal(
      [...seen.values()].reduce((sum, count) => sum + count),
      8_864
    )
    assert.deepEqual([...seen.keys()].sort(), ["Tampered", "UnknownKeyId", "UnsupportedFormat", "WrongKey"])
  })

  test("cut off anywhere, or with bytes behind it, never opens", () => {
    const sealed = envelope.seal(key, context, "p".repeat(200))
    for (let length = 0; length < sealed.length; length++) {
      const result = opened(sealed.subarray(0, length))
      assert.equal(result, length < 84 ? "Truncated" : "Tampered", `${length} bytes`)
    }
    assert.equal(opened(Buffer.concat([sealed, Buffer.of(0)])), "Tampered")
    assert.equal(opened(Buffer.concat([sealed, sealed])), "Tampered")
  })

  test("of other bytes at random is refused", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, isHeaded) => {
        const header = envelope.seal(key, context, "").subarray(0, 12)
        const forged = Buffer.concat(isHeaded ? [header, bytes] : [bytes])
        assert.ok(!opened(forged).startsWith("opened"))
      }),
      { numRuns: 2000 }
    )
  })

  test("four causes have four errors: wrong key, unknown key, moved, cut off", () => {
    const sealed = envelope.seal(key, context, "text")
    assert.equal(opened(sealed, context, finding(keyOf("k1", "another key of this name"))), "WrongKey")
    assert.equal(opened(sealed, context, finding(keyOf("k2"))), "UnknownKeyId")
    assert.equal(opened(sealed, encode(contexts.snapshot as Context)), "Tampered")
    assert.equal(opened(sealed.subarray(0, 50)), "Truncated")
  })

  test("as text is found to be none when a character is no base64url, or is missing", () => {
    const sealed = sealText(key, context, "some text")
    for (let i = 0; i < sealed.length; i++) {
      for (const text of [
        `${sealed.slice(0, i)}!${sealed.slice(i + 1)}`,
        `${sealed.slice(0, i)}${sealed.slice(i + 1)}`,
        `${sealed.slice(0, i)}\n${sealed.slice(i)}`,
        `${sealed.slice(0, i)}ü${sealed.slice(i + 1)}`
      ]) {
        assert.notEqual(typeof openText(find, "k1", context, text, place), "string")
      }
    }
  })

  test("whose column names another key is Tampered", () => {
    const other = keyOf("k2")
    const keys = finding(key, other)
    const result = openText(keys, "k2", context, sealText(key, context, "text"), place)
    assert.ok(typeof result !== "string")
    assert.equal(result._tag, "Tampered")
  })

  test("of one text is another each time", () => {
    const seen = new Set(Array.from({ length: 20_000 }, () => envelope.seal(key, context, "").toString("hex", 12, 36)))
    assert.equal(seen.size, 20_000)
  })
})

/** For each field another value, and for pairs of fields one in the place of the other. */
const variants = (base: Context): ReadonlyArray<readonly [name: string, other: Context]> => {
  const fields = Object.keys(base) as Array<ContextField>
  const changed = fields.map((field) => {
    const value = base[field]
    return [`another ${field}`, { ...base, [field]: typeof value === "number" ? value + 1 : `${value}x` }] as const
  })
  const absent = fields
    .filter((field) => field !== "kind")
    .map((field) => [`no ${field}`, { ...base, [field]: undefined }] as const)
  const swapped = fields.flatMap((one, i) =>
    fields.slice(i + 1).flatMap((other) => {
      const [a, b] = [base[one], base[other]]
      return a === b || typeof a !== typeof b
        ? []
        : [[`${one} and ${other} swapped`, { ...base, [one]: b, [other]: a }] as const]
    })
  )
  // The end of one field moved to the beginning of the next.
  const shifted = fields.flatMap((one, i) => {
    const other = fields[i + 1]
    const [a, b] = [base[one], other === undefined ? undefined : base[other]]
    return other === undefined || typeof a !== "string" || typeof b !== "string" || a.length < 2
      ? []
      : [[`${one} shifted into ${other}`, { ...base, [one]: a.slice(0, -1), [other]: `${a.slice(-1)}${b}` }] as const]
  })
  return [...changed, ...absent, ...swapped, ...shifted]
}

describe("the context", () => {
  for (const [name, base] of Object.entries(contexts)) {
    test(`of ${name}: moved to another place, by any field or pair of fields, it is Tampered`, () => {
      const sealed = envelope.seal(key, encode(base), "text")
      assert.equal(opened(sealed, encode(base)), "opened text")
      const others = variants(base)
      assert.ok(others.length > 3)
      for (const [what, other] of others) assert.equal(opened(sealed, encode(other)), "Tampered", what)
    })
  }

  test("has other bytes for every other context", () => {
    const text = fc.string({ unit: fc.constantFrom("", "a", "b", "\0", "\u0001", "ü", "🔑"), maxLength: 6 })
    const arbitrary = fc.record(
      {
        kind: text,
        store: text,
        tenant: text,
        domain: text,
        id: text,
        version: fc.maxSafeNat(),
        type: text,
        metadata: fc.nat(1)
      },
      { requiredKeys: ["kind"] }
    )
    fc.assert(
      fc.property(arbitrary, arbitrary, (a, b) => {
        const isSame = JSON.stringify(Object.entries(a).sort()) === JSON.stringify(Object.entries(b).sort())
        assert.equal(encode(a).equals(encode(b)), isSame)
      }),
      { numRuns: 5000 }
    )
  })

  test("refuses text that UTF-8 would fold, and numbers that are none", () => {
    assert.throws(() => encode({ kind: "\ud800" }), RangeError)
    for (const version of [-1, 0.5, Number.NaN, 2 ** 53])
      assert.throws(() => encode({ kind: "x", version }), RangeError)
  })
})

describe("a large envelope", () => {
  /** What the steps come to, and how many they were. */
  const counted = <A>(steps: Steps<A>): readonly [A, number] => {
    for (let count = 1; ; count++) {
      const step = steps.next()
      if (step.done) return [step.value, count]
    }
  }

  // Characters of one to four bytes, and pairs of surrogates on both sides of where a step ends.
  const texts = {
    ASCII: "x".repeat(16 * 2 ** 20),
    "two bytes each": "ü".repeat(3 * stepBytes),
    "pairs on the border": `${"x".repeat(stepBytes - 1)}${"🔑".repeat(2 * stepBytes)}`,
    "a half pair on the border": `${"x".repeat(stepBytes - 1)}\ud83d${"x".repeat(stepBytes)}`
  }

  for (const [name, text] of Object.entries(texts)) {
    test(`is what it is of the text in one piece, and no step has more than ${stepBytes} characters: ${name}`, () => {
      const nonce = new Uint8Array(24).fill(7)
      const [bytes] = counted(envelope.sealing(key, context, text, nonce))
      const [ofBytes] = counted(envelope.sealing(key, context, Buffer.from(text), nonce))
      assert.ok(bytes.equals(ofBytes))
      const [plaintext, opens] = counted(envelope.opening(find, context, bytes, place, false))
      assert.ok(Buffer.isBuffer(plaintext) && plaintext.equals(Buffer.from(text)))
      assert.ok(opens >= Math.ceil(plaintext.length / stepBytes))
      const [sealed, steps] = counted(sealer.sealText(key, context, text))
      // into bytes, encrypted, into base64url
      assert.ok(steps >= 3 * Math.floor(text.length / stepBytes), `${steps}`)
      const [same, back] = counted(sealer.openText(find, "k1", context, sealed, place))
      assert.equal(same, Buffer.from(text).toString("utf8"))
      assert.ok(back >= 3 * Math.floor(text.length / stepBytes), `${back}`)
    })
  }

  test("is found out as a small one is: a character that is none, a flipped bit, a missing end", () => {
    const sealed = sealText(key, context, texts["two bytes each"])
    for (const at of [0, stepBytes, Math.floor(sealed.length / 2), sealed.length - 1]) {
      for (const text of [
        `${sealed.slice(0, at)}!${sealed.slice(at + 1)}`,
        `${sealed.slice(0, at)}${sealed.slice(at + 1)}`,
        `${sealed.slice(0, at)}${sealed[at] === "A" ? "B" : "A"}${sealed.slice(at + 1)}`,
        sealed.slice(0, at)
      ]) {
        assert.notEqual(typeof openText(find, "k1", context, text, place), "string")
      }
    }
  })

  test("lets others have their turns while the service seals and opens it, and is given up when interrupted", () =>
    Effect.gen(function* () {
      const service = yield* CryptoService.CryptoService
      let turns = 0
      let isOver = false
      const tick = (): void => {
        turns++
        if (!isOver) setImmediate(tick)
      }
      tick()
      const sealed = yield* service.seal("here", texts.ASCII)
      const sealing = turns
      assert.ok(sealing >= 60, `${sealing}`)
      assert.equal(Buffer.from(yield* service.open("here", sealed)).toString(), texts.ASCII)
      assert.ok(turns - sealing >= 30, `${turns - sealing}`)
      const fiber = yield* Effect.fork(service.seal("here", texts.ASCII))
      yield* Effect.yieldNow()
      assert.equal((yield* Fiber.interrupt(fiber))._tag, "Failure")
      isOver = true
    }).pipe(Effect.provide(CryptoService.layer(ringOf("k1"))), Effect.runPromise))
})

describe("work in steps", () => {
  test("that is interrupted ends where it is, and clears up", () =>
    Effect.gen(function* () {
      let cleared = false
      function* endless(): Steps<never> {
        try {
          for (;;) yield
        } finally {
          cleared = true
        }
      }
      const fiber = yield* Effect.fork(inTurns(endless))
      yield* turn
      assert.equal(cleared, false)
      yield* Fiber.interrupt(fiber)
      assert.equal(cleared, true)
    }).pipe(Effect.runPromise))

  /** How many turns of the event loop there are while a page is opened whose records take no time themselves. */
  const turnsFor = (records: number, chars: number): Promise<number> =>
    Effect.gen(function* () {
      let turns = 0
      let isOver = false
      const tick = (): void => {
        if (isOver) return
        turns++
        setImmediate(tick)
      }
      const rows = Array.from({ length: records }, () => ({ data: "x".repeat(chars) }))
      const cipher = { ring: { finding: () => Effect.succeed(find) } } as unknown as Parameters<
        typeof sealer.openAll
      >[0]
      setImmediate(tick)
      const opened = yield* sealer.openAll(
        cipher,
        rows,
        () => {},
        // biome-ignore lint/correctness/useYield: a record that is opened in one step
        function* (row) {
          return row
        }
      )
      isOver = true
      assert.deepEqual(opened, rows)
      return turns
    }).pipe(Effect.runPromise)

  test("on a page lets others have a turn after 64 records, and after half a MiB of text", async () => {
    assert.equal(await turnsFor(64, 1), 0)
    assert.ok((await turnsFor(64 * 5 + 1, 1)) >= 5)
    assert.equal(await turnsFor(8, 64 * 1024), 0)
    assert.ok((await turnsFor(60, 64 * 1024)) >= 6)
  })
})
