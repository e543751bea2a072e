/**
 * The names of what the stores have in a SQLite database: checked in one place.
 */
import { describe, refuse } from "../../internal/validate.js"
import type * as migrations from "../../sql/migrations.js"

/**
 * The names of the tables.
 *
 * @since 0.1.0
 * @category models
 */
export interface NameOptions {
  /** The beginning of the tables' names: `[a-z_][a-z0-9_]{0,30}` or empty. Default `"es_"`. */
  readonly prefix?: string | undefined
}

export type Names = migrations.Names

/** Throws `InvalidInput`. */
export const checkedNames = ({ prefix = "es_" }: NameOptions): Names => {
  if (typeof prefix !== "string" || !/^(?!sqlite_)(?:[a-z_][a-z0-9_]{0,30})?$/.test(prefix)) {
    const why = `must match [a-z_][a-z0-9_]{0,30} and not begin with sqlite_, or be empty, not ${describe(prefix)}`
    return refuse("prefix", why)
  }
  return { qualified: (name) => `${prefix}${name}` }
}
