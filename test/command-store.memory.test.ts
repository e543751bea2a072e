/**
 * The CommandStore's contract on the backend in memory.
 */
import { Effect, Layer, TestClock, TestContext } from "effect"
import { CommandStore, CommandStoreEncoded } from "effect-stores"
import { CommandStoreMemory } from "effect-stores/memory"
import { CommandStoreSuite } from "effect-stores/testing"
import { describe, expect, it } from "vitest"
import { commandsAtThePort, encodedCommand, lease, newCommand } from "./support/commandsOnSql.js"
import { badInput, model } from "./support/scale.js"

const encoded = Effect.runSync(CommandStoreMemory.makeEncoded)
const view = (readOnly: boolean) =>
  Layer.sync(CommandStore.CommandStore, () => CommandStoreEncoded.make(encoded, { system: "memory", readOnly }))

CommandStoreSuite.contract("CommandStore in memory", view(false), { readOnly: view(true) })
CommandStoreSuite.badInput("CommandStore in memory", CommandStoreMemory.layer(), badInput)
CommandStoreSuite.model("CommandStore in memory", CommandStoreMemory.layer(), model)

describe("CommandStore in memory", () => {
  commandsAtThePort((use) => Effect.runPromise(use(encoded)))

  it("a command is open from the moment on at which its lease ends, by the Clock", () =>
    Effect.gen(function* () {
      const port = yield* CommandStoreMemory.makeEncoded
      const { id } = newCommand()
      const { position } = (yield* port.create(encodedCommand(id), lease(1_000))).command
      const open = port.open({ filter: CommandStoreEncoded.anyCommand, limit: 1 })
      yield* TestClock.adjust(999)
      expect(yield* open).toEqual([])
      yield* TestClock.adjust(1)
      expect(yield* open).toMatchObject([{ id, isLeftBehind: true }])
      expect(yield* port.takeOver({ ...lease(1_000), id, position, attempts: 1 })).toBe(true)
      expect(yield* open).toEqual([])
    }).pipe(Effect.provide(TestContext.TestContext), Effect.runPromise))
})
