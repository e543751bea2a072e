/**
 * The names of what the stores have in a PostgreSQL database: checked, quoted and qualified in one place.
 */
import { createHash } from "node:crypto"
import { describe, refuse } from "../../internal/validate.js"
import type * as migrations from "../../sql/migrations.js"

/**
 * Where the tables are.
 *
 * @since 0.1.0
 * @category models
 */
export interface NameOptions {
  /** The schema; created if missing. Default `public`. */
  readonly schema?: string | undefined
  /** The beginning of the names of tables and functions. Default `es_`. */
  readonly prefix?: string | undefined
}

export interface Names extends migrations.Names {
  readonly schema: string
  /** As the catalogs have it. */
  readonly plain: (name: string) => string
  /** For objects that belong to the schema of their table and must not be qualified when they are created. */
  readonly bare: (name: string) => string
  /** The beginning of the names of prepared statements, and the channel of notifications. */
  readonly channel: string
}

// 63 bytes are PostgreSQL's limit for a name, and longer ones are cut silently.
const schemaPattern = /^[a-z_][a-z0-9_]{0,40}$/
const prefixPattern = /^([a-z_][a-z0-9_]{0,30})?$/

/** Throws `InvalidInput`. */
export const checkedNames = ({ prefix = "es_", schema = "public" }: NameOptions): Names => {
  if (typeof schema !== "string" || !schemaPattern.test(schema)) {
    return refuse("schema", `must match ${schemaPattern}, not ${describe(schema)}`)
  }
  if (typeof prefix !== "string" || !prefixPattern.test(prefix)) {
    return refuse("prefix", `must match ${prefixPattern}, not ${describe(prefix)}`)
  }
  const plain = (name: string) => `${prefix}${name}`
  const bare = (name: string) => `"${plain(name)}"`
  return {
    schema,
    plain,
    bare,
    qualified: (name) => `"${schema}".${bare(name)}`,
    // Names of prepared statements and channels are limited to 63 bytes too, and belong to no schema.
    channel: `es_${createHash("sha256").update(`${schema}.${prefix}`).digest("hex").slice(0, 16)}`
  }
}
