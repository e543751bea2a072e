/**
 * Set-up of a whole test run: has the servers ready before the first test, tells the tests where they are, and says at
 * the very end what could not be tested. Under CI nothing may be missing: there the run fails before it starts.
 */
import { randomUUID } from "node:crypto"
import type { TestProject } from "vitest/node"
import { dropDatabases } from "./databases.js"
import { guardedDirectory } from "./guard.js"
import { findPostgresBinaries } from "./postgres.js"
import { findServer, isWayOpen, serverKinds } from "./servers.js"

declare module "vitest" {
  export interface ProvidedContext {
    /** The maintenance database of the run's PostgreSQL server, undefined when there is no server. */
    pgUrl: string | undefined
    /** Whether the run started that server itself. */
    pgPrivate: boolean
    /** Why there is no PostgreSQL server, undefined when there is one. */
    pgMissing: string | undefined
    /** Why tests cannot start PostgreSQL servers of their own (`startPostgres`), undefined when they can. */
    ownPgMissing: string | undefined
    /** What the names of this run's databases begin with. */
    databasePrefix: string
    /** The run's directory for temporary files. */
    temporaryDirectory: string
  }
}

const yes = (value: string | undefined): boolean => value !== undefined && !["", "0", "false"].includes(value)

export default async (project: TestProject): Promise<() => Promise<void>> => {
  const { pg } = serverKinds
  const databasePrefix = `es_test_${randomUUID().slice(0, 8)}_`
  const server = await findServer(pg)
  const found = "url" in server ? server : undefined
  const pgMissing = "missing" in server ? server.missing : undefined
  const ownPgMissing = !isWayOpen(pg, "local")
    ? `${pg.variable}=${process.env[pg.variable]}`
    : findPostgresBinaries() === undefined
      ? "no initdb and postgres on this machine"
      : undefined

  const missing: Array<string> = []
  if (pgMissing !== undefined) missing.push(`${pg.title}: ${pgMissing}`)
  if (ownPgMissing !== undefined) missing.push(`${pg.title} killed and restarted by a test: ${ownPgMissing}`)
  const banner =
    missing.length === 0
      ? undefined
      : ["NOT TESTED in this run:", ...missing.map((line) => `  ${line}`), `To test it: ${pg.remedy}.`].join("\n")

  if (banner !== undefined && yes(process.env.CI)) {
    await found?.stop()
    throw new Error(`Under CI every backend must be tested.\n${banner}`)
  }

  const { directory, guard } = guardedDirectory("es-test-")
  project.provide("pgUrl", found?.url)
  project.provide("pgPrivate", found?.isPrivate ?? false)
  project.provide("pgMissing", pgMissing)
  project.provide("ownPgMissing", ownPgMissing)
  project.provide("databasePrefix", databasePrefix)
  project.provide("temporaryDirectory", directory)

  return async () => {
    if (found !== undefined && !found.isPrivate) await dropDatabases(found.url, databasePrefix)
    await found?.stop()
    await guard.release()
    if (banner !== undefined) console.error(`\n${"!".repeat(80)}\n${banner}\n${"!".repeat(80)}\n`)
  }
}
