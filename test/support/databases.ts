/**
 * Creating and dropping databases on a PostgreSQL server that is known by its url. Nothing here starts a server.
 */
import { randomUUID } from "node:crypto"
import { Client } from "pg"

/** Runs `use` with one connection to the database at `url` and closes it. */
export const withClient = async <A>(url: string, use: (client: Client) => Promise<A>): Promise<A> => {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 120_000 })
  // an idle connection that the server ends must fail the next query, not the process
  client.on("error", () => {})
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

/** Creates a database on the server at `url` (with a unique name unless one is given) and returns its url. */
export const createDatabase = async (url: string, name: string = uniqueName()): Promise<string> => {
  await withClient(url, (client) => client.query(`CREATE DATABASE ${client.escapeIdentifier(name)}`))
  const created = new URL(url)
  created.pathname = `/${encodeURIComponent(name)}`
  return created.href
}

/** Drops the databases of a server whose names begin with `prefix`, ending connections that tests left behind. */
export const dropDatabases = (serverUrl: string, prefix: string): Promise<void> =>
  withClient(serverUrl, async (client) => {
    const found = await client.query<{ datname: string }>(
      "SELECT datname FROM pg_database WHERE starts_with(datname, $1)",
      [prefix]
    )
    for (const { datname } of found.rows) {
      await client.query(`DROP DATABASE IF EXISTS ${client.escapeIdentifier(datname)} WITH (FORCE)`)
    }
  })

const uniqueName = (): string => `es_test_${randomUUID().replaceAll("-", "").slice(0, 20)}`
