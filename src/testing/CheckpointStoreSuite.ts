/**
 * The contract of the CheckpointStore as tests, for every backend: those of this package and a user's own. Each
 * function registers a suite with vitest, from a test file. Tests have followers of their own and clean up nothing; the
 * layer is built once per suite. Give it a database that nobody else uses: one test resets it, another counts.
 *
 * @since 0.1.0
 */
import type * as Layer from "effect/Layer"
import type { CheckpointStore } from "../CheckpointStore.js"
import * as BadInput from "./checkpointStore/badInput.js"
import { claims } from "./checkpointStore/claims.js"
import { commits } from "./checkpointStore/commits.js"
import { deadLetters } from "./checkpointStore/deadLetters.js"
import { maintenance, readOnly, reset } from "./checkpointStore/maintenance.js"
import * as Model from "./checkpointStore/model.js"
import * as suites from "./suite.js"

/**
 * @since 0.1.0
 * @category models
 */
export type ContractOptions = suites.ContractOptions<CheckpointStore>

/**
 * The contract, point by point.
 *
 * @example
 * ```ts
 * import { CheckpointStoreSuite } from "effect-stores/testing"
 * import { CheckpointStoreMine } from "./CheckpointStoreMine.js"
 *
 * const options = { url: "mine://localhost/test" }
 * CheckpointStoreSuite.contract("CheckpointStore on Mine", CheckpointStoreMine.layer(options), {
 *   readOnly: CheckpointStoreMine.layer({ ...options, readOnly: true })
 * })
 * CheckpointStoreSuite.badInput("CheckpointStore on Mine", CheckpointStoreMine.layer(options))
 * CheckpointStoreSuite.model("CheckpointStore on Mine", CheckpointStoreMine.layer(options))
 * ```
 *
 * @since 0.1.0
 * @category suites
 */
export const contract = <E>(
  name: string,
  layer: Layer.Layer<CheckpointStore, E>,
  options: ContractOptions = {}
): void =>
  suites.suite(`${name}: contract`, layer, options.timeoutMs ?? 900_000, (test) => {
    claims(test)
    commits(test)
    deadLetters(test)
    maintenance(test, { secrets: options.secrets ?? [] })
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
  layer: Layer.Layer<CheckpointStore, E>,
  options: suites.BadInputOptions = {}
): void => suites.badInputSuite(name, layer, options, BadInput.badInput)

/**
 * Random histories of operations on the backend and on the backend in memory: every answer must be the same.
 *
 * @since 0.1.0
 * @category suites
 */
export const model = <E>(
  name: string,
  layer: Layer.Layer<CheckpointStore, E>,
  options: suites.ModelOptions = {}
): void => suites.modelSuite(name, layer, options, Model.model)
