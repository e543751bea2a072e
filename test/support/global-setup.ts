/**
 * Set-up of a whole test run: has the servers ready before the first test, tells the tests where they are, and says at
 * the very end what could not be tested. Under CI nothing may be missing: there the run fails before it starts.
 */
import { randomUUID } from "node:crypto"
import type { TestProject } from "vitest/node"
import { dropDatabases } from "./databases.js"
import { guardedDirectory } from "./guard.js"
import { postgresMissing } from "./postgres.js"
import { wantedMajor } from "./postgres-versions.js"
import { deleteKeys, redisBinaryMissing } from "./redis.js"
import { findServer, isWayOpen, type ServerKind, serverKinds } from "./servers.js"
import { type ToolName, tools } from "./tools.js"

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
    /** The run's Redis server, undefined when there is no server. */
    redisUrl: string | undefined
    /** Whether the run started that server itself. */
    redisPrivate: boolean
    /** Why there is no Redis server, undefined when there is one. */
    redisMissing: string | undefined
    /** Why tests cannot start Redis servers of their own (`startRedis` and its kin), undefined when they can. */
    ownRedisMissing: string | undefined
    /** The programs that tests need and that this machine does not have, each with the reason. */
    toolsMissing: Partial<Record<ToolName, string>>
    /** What the names of this run's databases and keys begin with. */
    databasePrefix: string
    /** The run's directory for temporary files. */
    temporaryDirectory: string
  }
}

const yes = (value: string | undefined): boolean => value !== undefined && !["", "0", "false"].includes(value)

export default async (project: TestProject): Promise<() => Promise<void>> => {
  const databasePrefix = `es_test_${randomUUID().slice(0, 8)}_`
  const missing: Array<Missing & { readonly of: ServerKind | (typeof tools)[ToolName] }> = []
  const stops: Array<() => Promise<void>> = []

  /** A run's server of a kind, and whether tests can start their own, with what is missing noted. */
  const prepare = async (
    kind: ServerKind,
    binariesMissing: () => string | undefined | Promise<string | undefined>,
    cleanUp: (url: string, prefix: string) => Promise<void>
  ) => {
    const server = await findServer(kind)
    const ownMissing = isWayOpen(kind, "local")
      ? await binariesMissing()
      : `${kind.variable}=${process.env[kind.variable]}`
    if ("missing" in server) missing.push({ of: kind, what: kind.title, why: server.missing, remedy: kind.remedy })
    else {
      stops.push(async () => {
        if (!server.isPrivate) await cleanUp(server.url, databasePrefix)
        await server.stop()
      })
    }
    if (ownMissing !== undefined) {
      missing.push({
        of: kind,
        what: `${kind.title} killed and restarted by a test`,
        why: ownMissing,
        remedy: kind.remedy
      })
    }
    return "missing" in server
      ? { url: undefined, isPrivate: false, missing: server.missing, ownMissing }
      : { url: server.url, isPrivate: server.isPrivate, missing: undefined, ownMissing }
  }

  const stop = async () => {
    for (const each of stops) await each()
  }

  try {
    const pg = await prepare(serverKinds.pg, postgresMissing, dropDatabases)
    const redis = await prepare(serverKinds.redis, redisBinaryMissing, deleteKeys)
    const toolsMissing: Partial<Record<ToolName, string>> = {}
    for (const [name, tool] of Object.entries(tools) as ReadonlyArray<[ToolName, (typeof tools)[ToolName]]>) {
      const why = tool.missing()
      if (why === undefined) continue
      toolsMissing[name] = why
      missing.push({ of: tool, what: tool.title, why, remedy: tool.remedy })
    }
    if (yes(process.env.CI)) {
      // A run on a certain version of a server is one beside the plain run, which has everything else.
      const needed = wantedMajor() === undefined ? missing : missing.filter(({ of }) => of === serverKinds.pg)
      if (needed.length > 0) throw new Error(`Under CI everything must be tested.\n${bannerOf(needed)}`)
    }

    const { directory, guard } = guardedDirectory("es-test-")
    stops.push(guard.release)
    project.provide("pgUrl", pg.url)
    project.provide("pgPrivate", pg.isPrivate)
    project.provide("pgMissing", pg.missing)
    project.provide("ownPgMissing", pg.ownMissing)
    project.provide("redisUrl", redis.url)
    project.provide("redisPrivate", redis.isPrivate)
    project.provide("redisMissing", redis.missing)
    project.provide("ownRedisMissing", redis.ownMissing)
    project.provide("toolsMissing", toolsMissing)
    project.provide("databasePrefix", databasePrefix)
    project.provide("temporaryDirectory", directory)
  } catch (error) {
    await stop()
    throw error
  }

  return async () => {
    await stop()
    if (missing.length > 0) console.error(`\n${"!".repeat(80)}\n${bannerOf(missing)}\n${"!".repeat(80)}\n`)
  }
}

interface Missing {
  readonly what: string
  readonly why: string
  readonly remedy: string
}

const bannerOf = (missing: ReadonlyArray<Missing>) =>
  [
    "NOT TESTED in this run:",
    ...missing.map(({ what, why }) => `  ${what}: ${why}`),
    "To test it:",
    ...new Set(missing.map(({ remedy }) => `  ${remedy}`))
  ].join("\n")
