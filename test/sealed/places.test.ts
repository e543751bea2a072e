/**
 * What sealing remembers and keeps beside what is stored: the place of a command that is being executed, and the notes
 * of a store, which nobody writes who only reads.
 */
import assert from "node:assert/strict"
import { randomBytes, randomUUID } from "node:crypto"
import * as path from "node:path"
import { Effect, Layer, Option, Redacted, Schema } from "effect"
import { CommandStore, CryptoService, EventStore } from "effect-stores"
import { CommandStoreSqlite, EventStoreSqlite, SqliteDatabase } from "effect-stores/sqlite"
import { describe, test } from "vitest"
import { temporaryDirectory } from "../support/backends.js"

const key = { id: "k1", key: Redacted.make(Buffer.from(randomBytes(32)).toString("hex")) }
const cryptoOf = (policy: "RequireEncrypt" | "ForbidEncryptAllowDecrypt") =>
  CryptoService.layer({ keys: [key], primary: key.id, policy })

describe("a sealed CommandStore", () => {
  test("seals an outcome for its command, also where another had its position before", async () => {
    const database = SqliteDatabase.layer({ filename: ":memory:" })
    const layer = CommandStoreSqlite.layerFromDatabase().pipe(
      CryptoService.seal,
      Layer.provide(cryptoOf("RequireEncrypt")),
      Layer.provideMerge(database)
    )
    const command = (type: string) => ({ id: randomUUID(), tenantId: "t", domain: "d", type, data: {} })
    await Effect.gen(function* () {
      const commands = yield* CommandStore.CommandStore
      const { transaction } = yield* SqliteDatabase.SqliteDatabase
      const [first, second] = [command("First"), command("Second")]
      yield* Effect.exit(transaction(commands.execute(first, Effect.fail("rolled back"), { success: Schema.Number })))
      yield* commands.create(second)
      const options = { success: Schema.Number }
      assert.equal(yield* commands.execute(second, Effect.succeed(5), options), 5)
      assert.equal(yield* commands.execute(second, Effect.die("is not run again"), options), 5)
      assert.equal(Option.getOrThrow(yield* commands.get(second.id)).status, "succeeded")
    }).pipe(Effect.provide(layer), Effect.runPromise)
  })
})

describe("a sealed store that is only read", () => {
  test("changes nothing of what the store takes", async () => {
    const filename = path.join(temporaryDirectory(), "read.db")
    const append = (layer: Layer.Layer<EventStore.EventStore, unknown>) =>
      Effect.flatMap(EventStore.EventStore, (store) =>
        store.append({ tenantId: "t", domain: "d", aggregateId: "a" }, [{ type: "T", data: 1 }], { expected: "any" })
      ).pipe(Effect.provide(layer), Effect.either, Effect.runPromise)
    const opened = (policy: "RequireEncrypt" | "ForbidEncryptAllowDecrypt", readOnly: boolean) =>
      EventStoreSqlite.layer({ filename, readOnly }).pipe(CryptoService.seal, Layer.provide(cryptoOf(policy)))
    const version = (layer: Layer.Layer<EventStore.EventStore, unknown>) =>
      Effect.flatMap(EventStore.EventStore, (store) =>
        store.version({ tenantId: "t", domain: "d", aggregateId: "a" })
      ).pipe(Effect.provide(layer), Effect.runPromise)
    const plain = EventStoreSqlite.layer({ filename })

    assert.equal((await append(opened("RequireEncrypt", false)))._tag, "Right")
    // A reader on the way back does not take the others along.
    assert.equal(await version(opened("ForbidEncryptAllowDecrypt", true)), 1)
    assert.equal((await append(plain))._tag, "Left")
    // Nor does one that goes ahead.
    assert.equal((await append(opened("ForbidEncryptAllowDecrypt", false)))._tag, "Right")
    assert.equal(await version(opened("RequireEncrypt", true)), 2)
    assert.equal((await append(plain))._tag, "Right")
  })
})
