/**
 * The contract of the SnapshotStore as tests, for every backend: those of this package and a user's own. Each function
 * registers a suite with vitest, from a test file. Tests save under tenants of their own and clean up nothing; the
 * layer is built once per suite. Give it a database that nobody else uses: one test resets it, another counts.
 *
 * @since 0.1.0
 */
import type * as Layer from "effect/Layer"
import type { SnapshotStore } from "../SnapshotStore.js"
import { port } from "./ports/snapshotStore.js"
import { background } from "./snapshotStore/background.js"
import * as BadInput from "./snapshotStore/badInput.js"
import { maintenance, readOnly, reset } from "./snapshotStore/maintenance.js"
import * as Model from "./snapshotStore/model.js"
import { save } from "./snapshotStore/save.js"
import { states } from "./snapshotStore/states.js"
import { streams } from "./snapshotStore/streams.js"
import * as suites from "./suite.js"

export type { BadInputOptions, ModelOptions } from "./suite.js"

/**
 * @since 0.1.0
 * @category models
 */
export type ContractOptions = suites.ContractOptions<SnapshotStore>

/**
 * The contract, point by point. Some tests build `layer` a second time beside the first, and close it: both must be
 * views of the same data.
 *
 * @example
 * ```ts
 * import { SnapshotStoreSuite } from "effect-stores/testing"
 * import { SnapshotStoreMine } from "./SnapshotStoreMine.js"
 *
 * const options = { url: "mine://localhost/test" }
 * SnapshotStoreSuite.contract("SnapshotStore on Mine", SnapshotStoreMine.layer(options), {
 *   readOnly: SnapshotStoreMine.layer({ ...options, readOnly: true })
 * })
 * SnapshotStoreSuite.badInput("SnapshotStore on Mine", SnapshotStoreMine.layer(options))
 * SnapshotStoreSuite.model("SnapshotStore on Mine", SnapshotStoreMine.layer(options))
 * ```
 *
 * @since 0.1.0
 * @category suites
 */
export const contract = <E>(name: string, layer: Layer.Layer<SnapshotStore, E>, options: ContractOptions = {}): void =>
  suites.suite(`${name}: contract`, layer, options.timeoutMs ?? 900_000, (test) => {
    save(test)
    streams(test)
    states(test)
    background(test, layer)
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
  layer: Layer.Layer<SnapshotStore, E>,
  options: suites.BadInputOptions = {}
): void => suites.badInputSuite(name, layer, options, BadInput.badInput)

/**
 * Random histories of operations on the backend and on the backend in memory: every answer must be the same. Each
 * history begins with a reset.
 *
 * @since 0.1.0
 * @category suites
 */
export const model = <E>(name: string, layer: Layer.Layer<SnapshotStore, E>, options: suites.ModelOptions = {}): void =>
  suites.modelSuite(name, layer, options, Model.model)
