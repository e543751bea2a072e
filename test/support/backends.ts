/**
 * What test files ask of the run they are part of: the servers that were found, databases and directories of their
 * own, and suites that are skipped with their reason in the title where a server could not be had.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { describe, inject, it } from "vitest"
import { createDatabase } from "./databases.js"
import type { ToolName } from "./tools.js"

/** The maintenance database of the run's PostgreSQL server; undefined when there is no server. */
export const pgUrl = (): string | undefined => inject("pgUrl")

/** A suite that needs the run's PostgreSQL server; skipped, with the reason in its title, where there is none. */
export const describePg = (title: string, define: () => void | Promise<void>): void =>
  describeUnless(inject("pgMissing"), title, define)

/** A suite that starts PostgreSQL servers of its own through `startPostgres`, to kill and restart them. */
export const describeOwnPg = (title: string, define: () => void | Promise<void>): void =>
  describeUnless(inject("ownPgMissing"), title, define)

/** An empty database on the run's server, for the caller alone, dropped when the run ends. Returns its url. */
export const freshDatabase = async (): Promise<string> => {
  const server = pgUrl()
  if (server === undefined) throw new Error(`no PostgreSQL server: ${inject("pgMissing")}`)
  return createDatabase(server, `${inject("databasePrefix")}${process.pid}_${++count}`)
}

/** For pools of tests that wait in line on purpose: how long that takes where all processors are busy is no fault. */
export const patient = { acquireTimeout: "5 minutes" } as const

/** The same for Redis, where large values are waited for. */
export const patientRedis = { writeTimeout: "5 minutes" } as const

/** The run's Redis server, which other tests use at the same time; undefined when there is none. */
export const redisUrl = (): string | undefined => inject("redisUrl")

/** A suite that needs the run's Redis server; skipped, with the reason in its title, where there is none. */
export const describeRedis = (title: string, define: () => void | Promise<void>): void =>
  describeUnless(inject("redisMissing"), title, define)

/** A suite that starts Redis servers of its own through test/support/redis.ts, to kill, pause and restart them. */
export const describeOwnRedis = (title: string, define: () => void | Promise<void>): void =>
  describeUnless(inject("ownRedisMissing"), title, define)

/** A suite that needs a program of this machine. */
export const describeWith = (tool: ToolName, title: string, define: () => void | Promise<void>): void =>
  describeUnless(inject("toolsMissing")[tool], title, define)

/** What the caller's keys on the run's server are to begin with; they are removed when the run ends. */
export const freshKeyPrefix = (): string => `${inject("databasePrefix")}${process.pid}_${++count}:`

/** An empty directory for the caller alone, removed when the run ends. */
export const temporaryDirectory = (): string => fs.mkdtempSync(path.join(inject("temporaryDirectory"), "t-"))

let count = 0

const describeUnless = (missing: string | undefined, title: string, define: () => void | Promise<void>): void => {
  if (missing === undefined) describe(title, define)
  // What defines the tests may ask for the server, so it is not called.
  else describe.skip(`${title} [NOT TESTED: ${missing}]`, () => it("is not tested", () => {}))
}
