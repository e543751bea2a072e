/**
 * Keys and contexts of the tests of encryption.
 */
import { createHash } from "node:crypto"
import { Redacted } from "effect"
import type { CryptoService } from "effect-stores"
import type { Context } from "../../src/crypto/formats/context.js"
import { findIn } from "../../src/crypto/formats/envelope.js"
import { type Key, make } from "../../src/crypto/keys/key.js"

/** The same for the same name, on every machine. */
export const keyBytesOf = (name: string): Buffer => createHash("sha256").update(`key of tests ${name}`).digest()

export const keyOf = (id: string, name = id): Key => make(id, keyBytesOf(name))

export const finding = (...keys: ReadonlyArray<Key>) => findIn(new Map(keys.map((key) => [key.id, key])))

export const ringOf = (primary: string, ...others: ReadonlyArray<string>): CryptoService.RingOptions => ({
  keys: [primary, ...others].map((id) => ({ id, key: Redacted.make(keyBytesOf(id).toString("hex")) })),
  primary
})

/** A context of every kind, each field given. */
export const contexts: Readonly<Record<string, Context>> = {
  event: {
    kind: "event",
    store: "0f0e0d0c-0b0a-4908-8706-050403020100",
    tenant: "acme",
    domain: "Account",
    id: "a-1",
    version: 3,
    event: "0198c0de-0000-7000-8000-000000000001",
    type: "Deposited",
    field: "data",
    metadata: 0
  },
  command: {
    kind: "command",
    store: "0f0e0d0c-0b0a-4908-8706-050403020100",
    tenant: "acme",
    domain: "Account",
    id: "0198c0de-0000-7000-8000-000000000002",
    type: "Deposit",
    field: "outcome",
    status: "succeeded"
  },
  snapshot: {
    kind: "snapshot",
    store: "0f0e0d0c-0b0a-4908-8706-050403020100",
    tenant: "acme",
    domain: "Account",
    id: "a-1",
    version: 200,
    field: "state",
    schemaVersion: "v2",
    mark: "0198c0de-0000-7000-8000-000000000003"
  },
  cache: {
    kind: "cache",
    store: "0f0e0d0c-0b0a-4908-8706-050403020100",
    tenant: "acme",
    key: "balance:a-1",
    expires: 4_102_444_800_000
  },
  object: {
    kind: "object",
    store: "0f0e0d0c-0b0a-4908-8706-050403020100",
    tenant: "acme",
    key: "statements/2026-11.pdf",
    bucket: "documents",
    object: "6f626a656374"
  },
  own: { kind: "own", key: "a place of the application's own: ключ 🔑" }
}
