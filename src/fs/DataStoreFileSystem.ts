/**
 * The DataStore in a folder of a local file system. Every object is a file, and several processes may use the same
 * folder.
 *
 * The folder belongs to the store: what else lies in it is left alone, and who may write there may of course do as they
 * please. Names of objects are never paths, and symbolic links inside it are never followed.
 *
 * @since 0.1.0
 */
import * as fs from "node:fs/promises"
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { DataStore } from "../DataStore.js"
import * as Encoded from "../dataStore/DataStoreEncoded.js"
import { type InvalidInput, type StoreFailure, StoreUnavailable } from "../Errors.js"
import * as Health from "../Health.js"
import * as variables from "../internal/config.js"
import { located } from "../internal/connectionOptions.js"
import { type Keys, onlyKnown } from "../internal/storeOptions.js"
import { checked, describe, refuse } from "../internal/validate.js"
import * as port from "./dataStore/port.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface FolderOptions {
  /** Where the objects are; made if it is missing. */
  readonly root: string
  /**
   * Whether an object that was put survives a crash of the system and a power cut, on disks that keep what they have
   * synced. With false it survives the end of the process only: for tests and for data that can be made again. Default
   * true.
   */
  readonly sync?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends FolderOptions {
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
}

const folderKeys: Keys<FolderOptions> = { root: true, sync: true }

const optionKeys: Keys<Options> = { ...folderKeys, readOnly: true }

const checkedFolder = ({ root, sync = true }: FolderOptions): { readonly root: string; readonly sync: boolean } => {
  return typeof sync === "boolean"
    ? { root: located(root, "root"), sync }
    : refuse("sync", `must be true or false, not ${describe(sync)}`)
}

/**
 * The port on a folder: for layers that wrap it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded = (options: FolderOptions): Effect.Effect<Encoded.Encoded, InvalidInput | StoreFailure> =>
  Effect.flatMap(onlyKnown(options, folderKeys), (known) =>
    checked(
      () => checkedFolder(known),
      ({ root, sync }) => Effect.map(port.prepare(root, sync), (root) => port.make({ root, sync }))
    )
  )

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<DataStore, InvalidInput | StoreFailure> =>
  Layer.effect(
    DataStore,
    Effect.gen(function* () {
      const { readOnly, ...folder } = yield* onlyKnown(options, optionKeys)
      return Encoded.make(yield* makeEncoded(folder), { system: "filesystem", readOnly })
    })
  )

/**
 * The same from Config.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { DataStoreFileSystem } from "effect-stores/fs"
 *
 * const layer = DataStoreFileSystem.layerConfig({ root: Config.string("OBJECTS_FOLDER") })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<DataStore, InvalidInput | StoreFailure | ConfigError> =>
  Layer.unwrapEffect(Effect.map(variables.read(config), layer))

/**
 * Whether the folder is there and can be written to, known within 2 seconds.
 *
 * @since 0.1.0
 * @category getters
 */
export const health = (options: Options): Effect.Effect<Health.Health, InvalidInput> =>
  Effect.flatMap(onlyKnown(options, optionKeys), ({ root }) =>
    checked(
      () => located(root, "root"),
      (root) =>
        Health.make(
          Effect.tryPromise({
            try: () => fs.access(root, fs.constants.R_OK | fs.constants.W_OK),
            catch: (cause) => new StoreUnavailable({ operation: "health", retryable: true, cause })
          }).pipe(Effect.as("up" as const))
        )
    )
  )

/**
 * Options from the variables `ROOT`, which must be given, `SYNC` and `READ_ONLY`.
 *
 * @since 0.1.0
 * @category config
 */
export const config: Config.Config<Options> = variables.checkedOptions(
  { root: variables.text, sync: variables.flag, readOnly: variables.flag },
  "root"
)(({ root }) => located(root, "root"))
