/**
 * The variables that docs/encryption.md gives for a rotation, as an operator sets them one after the other.
 */
import assert from "node:assert/strict"
import * as fs from "node:fs"
import * as path from "node:path"
import { Config, ConfigProvider, Effect, Layer, Stream } from "effect"
import { CryptoService, EventStore } from "effect-stores"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { test } from "vitest"
import { keyBytesOf } from "../crypto/fixtures.js"
import { temporaryDirectory } from "../support/backends.js"
import { blocksOf, project } from "../support/documents.js"

const file = "docs/encryption.md"

/** Of each step, with keys in the place of what is left out there. */
const steps = blocksOf({ file, text: fs.readFileSync(path.join(project, file), "utf8") })
  .filter(({ code, language }) => language === "sh" && code.includes("decryptOnly"))
  .flatMap(({ code }) => code.split("\n\n"))
  .map((step) =>
    [...step.matchAll(/^(\w+)="?([^"\n]*)"?$/gm)].map(([, name = "", value = ""]): [string, string] => [
      name,
      value.replace(/(\d{4})=\w{4}\.\.\./g, (_, id: string) => `${id}=${Buffer.from(keyBytesOf(id)).toString("hex")}`)
    ])
  )

test("the variables of each step of a rotation open what was sealed before, and seal as the guide says", async () => {
  const filename = path.join(temporaryDirectory(), "events.db")
  const keys = CryptoService.layerConfig(Config.nested(CryptoService.config, "ENCRYPTION"))
  const stream = { tenantId: "acme", domain: "Account", aggregateId: "a-1" }
  const sealedBy: Array<string | null | undefined> = []
  for (const [i, variables] of steps.entries()) {
    await Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      yield* store.append(stream, [{ type: "Deposited", data: { step: i } }], { expected: i })
      assert.equal(yield* Stream.runCount(store.feed()), i + 1)
      const before = yield* CryptoService.countKeys([store])
      sealedBy.push(before.map(({ keyId, records }) => `${keyId}: ${records}`).join(", "))
      if (i === 1) yield* Stream.runDrain(CryptoService.reencrypt([store]))
    }).pipe(
      Effect.provide(EventStoreSqlite.layer({ filename }).pipe(CryptoService.seal, Layer.provide(keys))),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(variables), { pathDelim: "_" })),
      Effect.runPromise
    )
  }
  assert.deepEqual(sealedBy, ["2025: 1", "2025: 1, 2026: 1", "2026: 3"])
})
