/**
 * The contract of the CacheStore as tests, for every backend: those of this package and a user's own. Each function
 * registers a suite with vitest, from a test file. Tests use tenants of their own and clean up nothing; the layer is
 * built once per suite. Give it a database that nobody else uses: one test resets it.
 *
 * @since 0.1.0
 */
import type * as Layer from "effect/Layer"
import type { CacheStore } from "../CacheStore.js"
import * as BadInput from "./cacheStore/badInput.js"
import { entries } from "./cacheStore/entries.js"
import * as Interleavings from "./cacheStore/interleavings.js"
import { lists } from "./cacheStore/lists.js"
import { loads } from "./cacheStore/loads.js"
import { maintenance, readOnly, reset, typed } from "./cacheStore/maintenance.js"
import * as Model from "./cacheStore/model.js"
import { removal } from "./cacheStore/removal.js"
import { port } from "./ports/cacheStore.js"
import * as suites from "./suite.js"

export type { BadInputOptions, ModelOptions } from "./suite.js"

/**
 * @since 0.1.0
 * @category models
 */
export type ContractOptions = suites.ContractOptions<CacheStore>

/**
 * The contract, point by point. Some tests build `layer` a second time beside the first, and close it: both must be
 * views of the same data, as two processes are.
 *
 * @example
 * ```ts
 * import { CacheStoreSuite } from "effect-stores/testing"
 * import { CacheStoreMine } from "./CacheStoreMine.js"
 *
 * const options = { url: "mine://localhost/test" }
 * CacheStoreSuite.contract("CacheStore on Mine", CacheStoreMine.layer(options), {
 *   readOnly: CacheStoreMine.layer({ ...options, readOnly: true })
 * })
 * CacheStoreSuite.badInput("CacheStore on Mine", CacheStoreMine.layer(options))
 * CacheStoreSuite.model("CacheStore on Mine", CacheStoreMine.layer(options))
 * CacheStoreSuite.removalWins("CacheStore on Mine", CacheStoreMine.layer(options))
 * ```
 *
 * @since 0.1.0
 * @category suites
 */
export const contract = <E>(name: string, layer: Layer.Layer<CacheStore, E>, options: ContractOptions = {}): void =>
  suites.suite(`${name}: contract`, layer, options.timeoutMs ?? 900_000, (test) => {
    entries(test)
    removal(test, layer)
    loads(test, layer)
    lists(test)
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
  layer: Layer.Layer<CacheStore, E>,
  options: suites.BadInputOptions = {}
): void => suites.badInputSuite(name, layer, options, BadInput.badInput)

/**
 * Random histories of operations on the backend and on the backend in memory: every answer must be the same. Each
 * history begins with a reset.
 *
 * @since 0.1.0
 * @category suites
 */
export const model = <E>(name: string, layer: Layer.Layer<CacheStore, E>, options: suites.ModelOptions = {}): void =>
  suites.modelSuite(name, layer, options, Model.model)

/**
 * Random interleavings of loads, removals and reads through two instances of `layer`: nobody is given what was removed
 * before they asked. A store that looks, loads and sets fails the same property.
 *
 * @since 0.1.0
 * @category suites
 */
export const removalWins = <E>(
  name: string,
  layer: Layer.Layer<CacheStore, E>,
  options: suites.ModelOptions = {}
): void =>
  suites.modelSuite(`${name}, interleaved`, layer, { runs: 100, ...options }, (test, options) =>
    Interleavings.interleavings(test, layer, options)
  )
