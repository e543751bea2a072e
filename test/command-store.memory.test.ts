/**
 * The CommandStore's contract on the backend in memory.
 */
import { Effect, Layer } from "effect"
import { CommandStore, CommandStoreEncoded } from "effect-stores"
import { CommandStoreMemory } from "effect-stores/memory"
import { CommandStoreSuite } from "effect-stores/testing"
import { describe } from "vitest"
import { commandsAtThePort } from "./support/commandsOnSql.js"
import { badInput, model } from "./support/scale.js"

const encoded = Effect.runSync(CommandStoreMemory.makeEncoded)
const view = (readOnly: boolean) =>
  Layer.sync(CommandStore.CommandStore, () => CommandStoreEncoded.make(encoded, { system: "memory", readOnly }))

CommandStoreSuite.contract("CommandStore in memory", view(false), { readOnly: view(true) })
CommandStoreSuite.badInput("CommandStore in memory", CommandStoreMemory.layer(), badInput)
CommandStoreSuite.model("CommandStore in memory", CommandStoreMemory.layer(), model)

describe("CommandStore in memory", () => {
  commandsAtThePort((use) => Effect.runPromise(use(encoded)))
})
