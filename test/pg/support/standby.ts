/**
 * A streaming standby of a private PostgreSQL server: a base backup that follows its primary, for tests of what must be
 * read on the primary only.
 */
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { promisify } from "node:util"
import { withClient } from "../../support/databases.js"
import { guardedDirectory } from "../../support/guard.js"
import { freePort } from "../../support/ports.js"
import { findPostgresBinaries } from "../../support/postgres.js"

export interface Standby {
  /** The database at a url of the primary, on the standby. */
  readonly urlOf: (primaryUrl: string) => string
  /** Ends the server and removes its data directory. */
  readonly stop: () => Promise<void>
}

/** Time for a base backup of a small server to become a standby that answers; hanging must not take for ever. */
const readyTimeoutMs = 120_000

export interface StandbyOptions {
  /** The program of that name. */
  readonly pgBasebackup: string
  /** Any database of the primary, as a user who may replicate. */
  readonly primaryUrl: string
}

/** Resolves when the standby answers. */
export const startStandby = async ({ pgBasebackup, primaryUrl }: StandbyOptions): Promise<Standby> => {
  const bin = findPostgresBinaries()
  if (bin === undefined) throw new Error("no PostgreSQL server binaries on this machine")
  const primary = new URL(primaryUrl)
  const settings = await withClient(primaryUrl, (client) =>
    client.query("select current_setting('data_directory') as data, current_setting('max_connections') as connections")
  )
  // PostgreSQL does not run as root, so the standby belongs to whom the primary belongs to.
  const { gid, uid } = fs.statSync(settings.rows[0].data)
  const { directory, guard } = guardedDirectory("es-pg-standby-")
  const data = path.join(directory, "data")
  const url = (database: string) => {
    const url = new URL(database)
    url.port = String(port)
    return url.href
  }
  let port = 0
  try {
    fs.chownSync(directory, uid, gid)
    await promisify(execFile)(
      pgBasebackup,
      [
        ...["-h", primary.hostname, "-p", primary.port, "-U", primary.username, "-D", data],
        ...["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]
      ],
      { uid, gid, cwd: directory }
    )
    port = await freePort()
    const log = path.join(directory, "server.log")
    const output = fs.openSync(log, "a")
    const server = spawn(
      path.join(bin, "postgres"),
      [
        ...["-D", data, "-c", `port=${port}`, "-c", "listen_addresses=127.0.0.1"],
        ...["-c", `unix_socket_directories=${directory}`, "-c", "dynamic_shared_memory_type=mmap"],
        // Less than the primary's is refused.
        ...["-c", `max_connections=${settings.rows[0].connections}`]
      ],
      { uid, gid, cwd: directory, detached: true, stdio: ["ignore", output, output] }
    )
    fs.closeSync(output)
    guard.watch(server.pid)
    server.unref()
    const ended = once(server, "exit").then(() => {
      throw new Error(`the standby ended:\n${fs.readFileSync(log, "utf8")}`)
    })
    // Also when nobody races it any more.
    ended.catch(() => {})
    await Promise.race([ended, untilAnswers(url(primaryUrl))])
  } catch (error) {
    await guard.release()
    throw error
  }
  return { urlOf: url, stop: () => guard.release() }
}

const untilAnswers = async (url: string): Promise<void> => {
  const deadline = Date.now() + readyTimeoutMs
  for (;;) {
    try {
      await withClient(url, (client) => client.query("select 1"))
      return
    } catch (error) {
      if (Date.now() > deadline) throw error
    }
    await delay(20)
  }
}
