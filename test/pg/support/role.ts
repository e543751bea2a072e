/**
 * Roles of a PostgreSQL server that may do nothing but what a test grants them; gone when the scope closes.
 */
import { Effect } from "effect"
import { withClient } from "../../support/databases.js"
import { query } from "./query.js"

/** The same database as the new role, with a password: the server may want one. */
const urlAs = (url: string, role: string, password: string): string => {
  const own = new URL(url)
  own.username = role
  own.password = password
  return own.href
}

let count = 0

/** `grants` are statements for the owner of the database, in which `role` stands for the name. */
export const roleWith = (url: string, ...grants: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const role = `es_role_${process.pid}_${++count}`
    const password = crypto.randomUUID()
    yield* Effect.acquireRelease(query(url, `create role ${role} login password '${password}'`), () =>
      query(url, `drop owned by ${role}; drop role ${role}`)
    )
    const grant = (...grants: ReadonlyArray<string>) =>
      Effect.promise(() =>
        withClient(url, async (client) => {
          for (const text of grants) await client.query(text.replace(/\brole$/, role))
        })
      )
    yield* grant(...grants)
    return { name: role, url: urlAs(url, role, password), grant }
  })
