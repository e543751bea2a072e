/**
 * The contract of what keeps the keys of subjects, on every backend.
 */
import assert from "node:assert/strict"
import * as path from "node:path"
import { Effect, Layer, Redacted } from "effect"
import { Subjects } from "effect-stores"
import { SubjectKeysMemory } from "effect-stores/memory"
import { SubjectKeysPg } from "effect-stores/pg"
import { SubjectKeysSqlite } from "effect-stores/sqlite"
import { SubjectKeysSuite } from "effect-stores/testing"
import { describe, test } from "vitest"
import { describePg, freshDatabase, temporaryDirectory } from "../support/backends.js"
import { model } from "./support.js"

const file = () => ({ filename: path.join(temporaryDirectory(), "subjects.db") })

SubjectKeysSuite.contract("SubjectKeys in memory", SubjectKeysMemory.layer())
SubjectKeysSuite.contract("SubjectKeys on SQLite", SubjectKeysSqlite.layer(file()))
SubjectKeysSuite.model("SubjectKeys on SQLite", SubjectKeysSqlite.layer(file()), model)

describePg("SubjectKeys on PostgreSQL", async () => {
  const url = Redacted.make(await freshDatabase())
  SubjectKeysSuite.contract("SubjectKeys on PostgreSQL", SubjectKeysPg.layer({ url }))
  SubjectKeysSuite.model("SubjectKeys on PostgreSQL", SubjectKeysPg.layer({ url, prefix: "model_" }), model)

  test("are on a pool of their own, which no transaction of the application is part of", async () => {
    await Effect.runPromise(
      Effect.scoped(
        Effect.map(Layer.build(SubjectKeysPg.layer({ url })), ({ unsafeMap }) =>
          assert.deepEqual([...unsafeMap.keys()], [Subjects.SubjectKeys.key])
        )
      )
    )
  })
})

describe("options of the keys on SQLite", () => {
  test("have no other durability than FULL", async () => {
    const layer = SubjectKeysSqlite.layer({ ...file(), synchronous: "OFF" } as never)
    const error = await Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(layer))))
    assert.equal(error._tag, "InvalidInput")
  })
})
