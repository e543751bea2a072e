/**
 * The contract of the CommandStore as tests, for every backend: those of this package and a user's own. Each function
 * registers a suite with vitest, from a test file. Tests store under tenants of their own and clean up nothing; the
 * layer is built once per suite. Give it a database that nobody else uses: one test resets it, another counts.
 *
 * @since 0.1.0
 */
import type * as Layer from "effect/Layer"
import type { CommandStore } from "../CommandStore.js"
import * as BadInput from "./commandStore/badInput.js"
import { create, payloads } from "./commandStore/create.js"
import { execute } from "./commandStore/execute.js"
import { leases } from "./commandStore/leases.js"
import { lists } from "./commandStore/lists.js"
import { maintenance, readOnly, reset } from "./commandStore/maintenance.js"
import * as Model from "./commandStore/model.js"
import { typed } from "./commandStore/typed.js"
import { workers } from "./commandStore/workers.js"
import { port } from "./ports/commandStore.js"
import * as suites from "./suite.js"

export type { BadInputOptions, ModelOptions } from "./suite.js"

/**
 * @since 0.1.0
 * @category models
 */
export type ContractOptions = suites.ContractOptions<CommandStore>

/**
 * The contract, point by point. Some tests build `layer` a second time beside the first, as another process would, and
 * close it: both must be views of the same data. What a killed process leaves, and what `transaction` undoes, are
 * tested with the backends that know them.
 *
 * @example
 * ```ts
 * import { CommandStoreSuite } from "effect-stores/testing"
 * import { CommandStoreMine } from "./CommandStoreMine.js"
 *
 * const options = { url: "mine://localhost/test" }
 * CommandStoreSuite.contract("CommandStore on Mine", CommandStoreMine.layer(options), {
 *   readOnly: CommandStoreMine.layer({ ...options, readOnly: true })
 * })
 * CommandStoreSuite.badInput("CommandStore on Mine", CommandStoreMine.layer(options))
 * CommandStoreSuite.model("CommandStore on Mine", CommandStoreMine.layer(options))
 * ```
 *
 * @since 0.1.0
 * @category suites
 */
export const contract = <E>(name: string, layer: Layer.Layer<CommandStore, E>, options: ContractOptions = {}): void =>
  suites.suite(`${name}: contract`, layer, options.timeoutMs ?? 900_000, (test) => {
    create(test)
    payloads(test)
    lists(test)
    execute(test, layer)
    leases(test, layer)
    workers(test, layer)
    typed(test)
    maintenance(test, { secrets: options.secrets ?? [] })
    port(test)
    if (options.readOnly !== undefined) readOnly(test, options.readOnly)
    // Last, because it empties the store.
    reset(test)
  })

/**
 * Every operation, with hostile values in every place of its arguments: it fails with a documented typed error and
 * changes nothing, or it succeeds and what is read is what was put in. Never a defect, never a throw.
 *
 * @since 0.1.0
 * @category suites
 */
export const badInput = <E>(
  name: string,
  layer: Layer.Layer<CommandStore, E>,
  options: suites.BadInputOptions = {}
): void => suites.badInputSuite(name, layer, options, BadInput.badInput)

/**
 * Random histories of operations on the backend and on the backend in memory: every answer must be the same, but for
 * the values of positions and the times of outcomes. Each history begins with a reset.
 *
 * @since 0.1.0
 * @category suites
 */
export const model = <E>(name: string, layer: Layer.Layer<CommandStore, E>, options: suites.ModelOptions = {}): void =>
  suites.modelSuite(name, layer, options, Model.model)
