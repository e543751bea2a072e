/**
 * What a role must be allowed to use a store. It is looked at when a store opens, so that a grant that was forgotten is
 * found then, all of them at once, and not by the first call that needs it.
 */
import * as Effect from "effect/Effect"
import { StoreError, type StoreFailure } from "../../../Errors.js"
import type { Statement, StoreAccess } from "../access.js"
import type { Names } from "../names.js"

export type Privilege = "select" | "insert" | "update" | "delete"

/** By name, without the prefix. */
export interface Grants {
  readonly tables?: { readonly [name: string]: ReadonlyArray<Privilege> }
  /** `select` to know the last value, which `usage` also allows; `usage` to draw one. */
  readonly sequences?: { readonly [name: string]: ReadonlyArray<"select" | "usage"> }
  /** Functions that it calls. Everybody may, unless the owner of the database has revoked it. */
  readonly functions?: ReadonlyArray<string>
}

export interface Needs {
  readonly read: Grants
  /** Beside the former, for a store that is not read-only. */
  readonly write: Grants
}

type Kind = "schema" | "table" | "sequence" | "function"

interface Need {
  readonly kind: Kind
  readonly name: string
  readonly privilege: string
}

const needsOf = ({ functions = [], sequences = {}, tables = {} }: Grants): ReadonlyArray<Need> => {
  const each = (kind: Kind, named: { readonly [name: string]: ReadonlyArray<string> }) =>
    Object.entries(named).flatMap(([name, privileges]) => privileges.map((privilege) => ({ kind, name, privilege })))
  return [
    ...each("table", tables),
    ...each("sequence", sequences),
    ...functions.map((name): Need => ({ kind: "function", name, privilege: "execute" }))
  ]
}

const usage: Need = { kind: "schema", name: "", privilege: "usage" }

const all = ({ read, write }: Needs, readOnly: boolean): ReadonlyArray<Need> => [
  usage,
  ...needsOf({ tables: { migrations: ["select"] } }),
  ...needsOf(read),
  // Whoever writes looks in the notes whether the store takes only what is sealed.
  ...(readOnly ? [] : [...needsOf({ tables: { notes: ["select"] } }), ...needsOf(write)])
]

const statements = (names: Names, needs: ReadonlyArray<Need>, role: string): ReadonlyArray<string> => {
  const privileges = new Map<string, Array<string>>()
  for (const { kind, name, privilege } of needs) {
    const object =
      kind === "schema"
        ? `schema "${names.schema}"`
        : kind === "table"
          ? names.qualified(name)
          : `${kind} ${names.qualified(name)}`
    const known = privileges.get(object) ?? []
    privileges.set(object, [...known, privilege])
  }
  return Array.from(privileges, ([object, granted]) => `grant ${granted.join(", ")} on ${object} to ${role};`)
}

interface Found {
  readonly role: string
  /** Places in the list of needs. */
  readonly lacking: ReadonlyArray<number>
}

/**
 * What does not exist yet is not lacking: who creates it owns it. Catalogs are asked by name, since looking for a table
 * by its qualified name fails without `usage` on its schema.
 */
const find = (names: Names, needs: ReadonlyArray<Need>): Statement<Found, "read"> => ({
  text: `select quote_ident(current_user), array(
      select w.place::int
      from unnest($2::text[], $3::text[], $4::text[]) with ordinality as w (kind, name, privilege, place)
      where exists (
        select from pg_namespace n where n.nspname = $1 and (
          w.kind = 'schema' and not has_schema_privilege(n.oid, 'usage')
          or exists (
            select from pg_class c
            where c.relnamespace = n.oid and c.relname = w.name and (
              w.kind = 'table' and c.relkind <> 'S' and not has_table_privilege(c.oid, w.privilege)
              or w.kind = 'sequence' and c.relkind = 'S' and not has_sequence_privilege(c.oid, w.privilege)
            )
          )
          or exists (
            select from pg_proc p
            where w.kind = 'function' and p.pronamespace = n.oid and p.proname = w.name
              and not has_function_privilege(p.oid, 'execute')
          )
        )
      )
    )`,
  values: [
    names.schema,
    needs.map(({ kind }) => kind),
    needs.map(({ name }) => names.plain(name)),
    // Either will do to know the last value.
    needs.map(({ kind, privilege }) => (kind === "sequence" && privilege === "select" ? "select, usage" : privilege))
  ],
  rowMode: "array",
  operation: "checking privileges",
  kind: "read",
  onResult: ({ rows }) => {
    const [role, lacking] = rows[0] as readonly [string, ReadonlyArray<number>]
    return { role, lacking }
  }
})

/** Fails with the statements that grant what is lacking, for the owner of the tables to run. */
export const check = (
  { connection, run }: StoreAccess,
  names: Names,
  needs: Needs,
  readOnly: boolean
): Effect.Effect<void, StoreFailure> => {
  const wanted = all(needs, readOnly)
  return Effect.flatMap(run(find(names, wanted)), ({ lacking, role }) => {
    if (lacking.length === 0) return Effect.void
    const grants = statements(
      names,
      lacking.map((place) => wanted[place - 1] as Need),
      role
    )
    const why = `the role ${role} lacks privileges at ${connection}; let the owner run: ${grants.join(" ")}`
    return Effect.fail(new StoreError({ operation: "checking privileges", cause: new Error(why) }))
  })
}
