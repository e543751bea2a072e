/**
 * The names of what the stores have in a PostgreSQL database: checked, quoted and qualified in one place.
 */
import { createHash } from "node:crypto"
import * as Either from "effect/Either"
import { InvalidInput } from "../../Errors.js"
import { describe } from "../../internal/validate.js"

/**
 * Where the tables are.
 *
 * @since 0.1.0
 * @category models
 */
export interface NameOptions {
  /** The schema; created if missing. Default `public`. */
  readonly schema?: string | undefined
  /** What names of tables and functions begin with. Default `es_`. */
  readonly prefix?: string | undefined
}

export interface Names {
  readonly schema: string
  /** All quoted and qualified, except `schema` and `channel`. */
  readonly events: string
  readonly snapshots: string
  readonly commands: string
  readonly positions: string
  readonly migrations: string
  readonly append: string
  readonly tryAppend: string
  readonly appendGroup: string
  readonly appendAll: string
  readonly head: string
  readonly deleteStream: string
  readonly channel: string
  /** For objects that live in the schema of their table and may not be qualified when created. */
  readonly bare: (name: string) => string
}

// 63 bytes are PostgreSQL's limit for a name, and longer ones are cut silently.
const schemaPattern = /^[a-z_][a-z0-9_]{0,40}$/
const prefixPattern = /^([a-z_][a-z0-9_]{0,30})?$/

export const checkedNames = (options: NameOptions): Either.Either<Names, InvalidInput> => {
  const schema = options.schema ?? "public"
  const prefix = options.prefix ?? "es_"
  if (typeof schema !== "string" || !schemaPattern.test(schema)) {
    return Either.left(
      new InvalidInput({ what: "schema", why: `must match ${schemaPattern}, not ${describe(schema)}` })
    )
  }
  if (typeof prefix !== "string" || !prefixPattern.test(prefix)) {
    return Either.left(
      new InvalidInput({ what: "prefix", why: `must match ${prefixPattern}, not ${describe(prefix)}` })
    )
  }
  const bare = (name: string) => `"${prefix}${name}"`
  const qualified = (name: string) => `"${schema}".${bare(name)}`
  return Either.right({
    schema,
    events: qualified("events"),
    snapshots: qualified("snapshots"),
    commands: qualified("commands"),
    positions: qualified("positions"),
    migrations: qualified("migrations"),
    append: qualified("append"),
    tryAppend: qualified("try_append"),
    appendGroup: qualified("append_group"),
    appendAll: qualified("append_all"),
    head: qualified("head"),
    deleteStream: qualified("delete_stream"),
    // Prepared statements and channels have 63 bytes too, and are no part of a schema.
    channel: `es_${createHash("sha256").update(`${schema}.${prefix}`).digest("hex").slice(0, 16)}`,
    bare
  })
}
