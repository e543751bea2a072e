/**
 * The contract of the DataStore as tests, for every backend: those of this package and a user's own. Each function
 * registers a suite with vitest, from a test file. Tests use buckets of their own and clean up nothing; the layer is
 * built once per suite. Give it a place that nobody else uses: one test resets it, another counts.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { DataStore, ObjectId } from "../DataStore.js"
import { atomicity } from "./dataStore/atomicity.js"
import * as BadInput from "./dataStore/badInput.js"
import { buckets, maintenance, readOnly, reset } from "./dataStore/buckets.js"
import { conditions } from "./dataStore/conditions.js"
import { copies } from "./dataStore/copies.js"
import { integrity } from "./dataStore/integrity.js"
import { lists } from "./dataStore/lists.js"
import { metadata } from "./dataStore/metadata.js"
import * as Model from "./dataStore/model.js"
import * as Names from "./dataStore/names.js"
import { objects } from "./dataStore/objects.js"
import * as suites from "./suite.js"

export type { BadInputOptions, ModelOptions, ReplayOptions } from "./suite.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface ContractOptions extends suites.ContractOptions<DataStore> {
  /**
   * Flips a bit of the byte at that place of what is stored of an object's body, underneath the store. Without it
   * nothing that was damaged is tested.
   */
  readonly damage?: ((object: ObjectId, offset: number) => Effect.Effect<void, unknown>) | undefined
  /**
   * What a store that seals its objects calls what was damaged, and the bytes that it verifies at once. By default
   * `ObjectCorrupt`, and 256 KiB.
   */
  readonly damaged?: { readonly error: "ObjectCorrupt" | "Tampered"; readonly pieceBytes: number } | undefined
  /**
   * How many files, rows or uploads there are that belong to no object, which must be none after every operation that
   * has failed. Without it what is left behind is not tested.
   */
  readonly leftBehind?: Effect.Effect<number, unknown> | undefined
  /**
   * False for a server on which a bucket can be deleted while an object is put into it, and both succeed. Default true.
   */
  readonly bucketsExclude?: boolean | undefined
  /** False for a server that does not know when its buckets were made. Default true. */
  readonly bucketTimes?: boolean | undefined
  /** Bytes of a larger object that several pieces, parts or rows of the backend make. Default 3 MiB. */
  readonly largeBytes?: number | undefined
  /** Objects in a long list, more than any page of the backend has. Default 1,205. */
  readonly manyObjects?: number | undefined
}

/**
 * The contract, point by point. What a backend cannot do, by its capabilities, must be refused.
 *
 * @example
 * ```ts
 * import { DataStoreSuite } from "effect-stores/testing"
 * import { DataStoreMine } from "./DataStoreMine.js"
 *
 * const options = { url: "mine://localhost/test" }
 * DataStoreSuite.contract("DataStore on Mine", DataStoreMine.layer(options), {
 *   readOnly: DataStoreMine.layer({ ...options, readOnly: true })
 * })
 * DataStoreSuite.names("DataStore on Mine", DataStoreMine.layer(options))
 * DataStoreSuite.badInput("DataStore on Mine", DataStoreMine.layer(options))
 * DataStoreSuite.model("DataStore on Mine", DataStoreMine.layer(options))
 * ```
 *
 * @since 0.1.0
 * @category suites
 */
export const contract = <E>(name: string, layer: Layer.Layer<DataStore, E>, options: ContractOptions = {}): void =>
  suites.suite(`${name}: contract`, layer, options.timeoutMs ?? 900_000, (test) => {
    const largeBytes = options.largeBytes ?? 3 * 2 ** 20
    objects(test, largeBytes)
    metadata(test)
    conditions(test)
    copies(test, largeBytes)
    lists(test, options.manyObjects ?? 1_205)
    atomicity(test, largeBytes, options.leftBehind)
    if (options.damage !== undefined) integrity(test, largeBytes, options.damage, options.damaged)
    buckets(test, { exclude: options.bucketsExclude ?? true, times: options.bucketTimes ?? true })
    maintenance(test, { secrets: options.secrets ?? [] })
    if (options.readOnly !== undefined) readOnly(test, options.readOnly)
    // Last, because it empties the store.
    reset(test)
  })

/**
 * Names that object stores were seen to mistake, and random ones: each comes back exactly from every operation, and no
 * two are the same object.
 *
 * @since 0.1.0
 * @category suites
 */
export const names = <E>(
  name: string,
  layer: Layer.Layer<DataStore, E>,
  options: suites.ReplayOptions & {
    /** Random names. Default 10,000. */
    readonly names?: number | undefined
  } = {}
): void =>
  suites.suite(`${name}: names`, layer, options.timeoutMs ?? 1_200_000, (test) =>
    Names.names(test, { ...options, runs: options.names ?? 10_000 })
  )

/**
 * Every operation, with hostile values in every place of its arguments: it fails with a documented typed error and
 * changes nothing, or it succeeds and what is read is what was put in. Never a defect, never a throw.
 *
 * @since 0.1.0
 * @category suites
 */
export const badInput = <E>(
  name: string,
  layer: Layer.Layer<DataStore, E>,
  options: suites.BadInputOptions = {}
): void => suites.badInputSuite(name, layer, options, BadInput.badInput)

/**
 * Random histories of operations on the backend and on the backend in memory: every answer must be the same, as far as
 * the backend's capabilities go. Each history begins with a reset.
 *
 * @since 0.1.0
 * @category suites
 */
export const model = <E>(name: string, layer: Layer.Layer<DataStore, E>, options: suites.ModelOptions = {}): void =>
  suites.modelSuite(name, layer, options, Model.model)
