/**
 * The options of a `SqliteDatabase`, checked, and where its file is.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InvalidInput } from "../../Errors.js"
import * as connectionOptions from "../../internal/connectionOptions.js"
import { checked, oneOf, refuse } from "../../internal/validate.js"
import * as Pool from "../../Pool.js"
import { type Options, type Synchronous, synchronousLevels } from "./options.js"

export interface Settings {
  /** Absolute, so that it names the same file whatever the working directory; or `:memory:`. */
  readonly filename: string
  readonly synchronous: Synchronous
  readonly groupCommit: boolean | undefined
  readonly limits: Pool.Limits
  /** The options of the pool that were given, and are not its defaults. */
  readonly given: ReadonlySet<PoolOption>
}

export type PoolOption = keyof Pool.SqlitePoolOptions

const limitNames = {
  maxOpenConns: "maxOpenConns",
  connMaxIdleTime: "connMaxIdleTimeMs",
  acquireTimeout: "acquireTimeoutMs",
  maxWaiting: "maxWaiting"
} as const satisfies Record<PoolOption, keyof Pool.Limits>

const poolOptions = Object.keys(limitNames) as ReadonlyArray<PoolOption>

export const limitOf = (limits: Pool.Limits, option: PoolOption): number => limits[limitNames[option]]

export const checkedSettings = (options: Options, defaults: Pool.Defaults): Effect.Effect<Settings, InvalidInput> =>
  Effect.flatMap(
    checked(
      () => ({
        filename: located(options.filename),
        synchronous: oneOf(options.synchronous ?? "FULL", "synchronous", synchronousLevels),
        groupCommit: options.groupCommit
      }),
      Effect.succeed
    ),
    (settings) =>
      Effect.map(Pool.limits(options.pool, defaults), (limits) => ({
        ...settings,
        limits,
        given: new Set(poolOptions.filter((option) => isGiven(options.pool?.[option])))
      }))
  )

/** Zero means the default, of a number and of a duration. */
const isGiven = (value: Duration.DurationInput | undefined): boolean =>
  value !== undefined && Duration.toMillis(value) !== 0

/** Throws `InvalidInput`. */
export const located = (filename: unknown): string => {
  if (filename === ":memory:") return filename
  const refused = (why: string) => refuse("filename", why)
  if (typeof filename === "string") {
    // The driver trims the name, and takes an empty one for a temporary database.
    if (filename.trim() !== filename) return refused("must not start or end with a space")
    if (filename.startsWith(":")) return refused('must be ":memory:" for a database in memory; write "./:…" for a file')
    if (/\?\w+=/.test(filename)) return refused("must be a path without parameters: they are options of their own")
    if (/[\\/]$/.test(filename)) return refused("must be the path of a file, and ends as one of a directory")
  }
  const file = connectionOptions.located(filename, "filename")
  const folder = path.dirname(file)
  // Made by whoever runs the application: one made here would hide a path that is wrong, or a volume that is missing.
  if (!fs.existsSync(folder))
    return refused(`is in the folder ${folder}, which does not exist: create it, or mend the path`)
  return file
}
