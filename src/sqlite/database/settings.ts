/**
 * The options of a `SqliteDatabase`, checked.
 */
import * as Effect from "effect/Effect"
import { InvalidInput } from "../../Errors.js"
import { describe } from "../../internal/validate.js"
import * as Pool from "../../Pool.js"
import { type Options, synchronousLevels } from "./options.js"

export const checkedSettings = (options: Options, defaults: Pool.Defaults) =>
  Effect.gen(function* () {
    const { filename, synchronous = "FULL" } = options
    const refuse = (what: string, why: string) => Effect.fail(new InvalidInput({ what, why }))
    if (typeof filename !== "string") {
      return yield* refuse("filename", `must be a string, not ${describe(filename)}`)
    }
    // The driver trims it, takes an empty one for a temporary database, and ends it at NUL.
    if (filename.trim() !== filename || filename === "") {
      return yield* refuse("filename", "must not be empty, nor start or end with a space")
    }
    if (filename.includes("\0")) return yield* refuse("filename", "must not contain NUL")
    if (!synchronousLevels.includes(synchronous)) {
      return yield* refuse(
        "synchronous",
        `must be one of ${synchronousLevels.join(", ")}, not ${describe(synchronous)}`
      )
    }
    return { filename, synchronous, limits: yield* Pool.limits(options.pool, defaults) }
  })
