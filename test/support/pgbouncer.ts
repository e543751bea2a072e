/**
 * Private PgBouncers for tests, in transaction mode, before a PostgreSQL server: on a free port, with a directory of
 * their own, and gone when the process that started them is gone.
 */
import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { withClient } from "./databases.js"
import { guardedDirectory } from "./guard.js"
import { freePort } from "./ports.js"
import { serverIdentity } from "./postgres.js"
import { exitAfter, isExecutable } from "./processes.js"

export interface PgBouncer {
  readonly port: number
  /** The same database as at a URL of the server, through the pooler. */
  readonly through: (url: string) => string
  readonly stop: () => Promise<void>
}

const readyTimeoutMs = 60_000

/** Not everybody has the directory of system programs in the path. */
export const findPgBouncer = (): string | undefined =>
  [...(process.env.PATH ?? "").split(path.delimiter), "/usr/sbin", "/usr/local/sbin"]
    .filter((directory) => directory !== "" && isExecutable(directory, "pgbouncer"))
    .map((directory) => path.join(directory, "pgbouncer"))[0]

/** `settings` are PgBouncer's; `default_pool_size` is how many sessions of the server it has for a user's database. */
export const startPgBouncer = async (
  server: string,
  settings: Readonly<Record<string, string | number>> = {}
): Promise<PgBouncer> => {
  const program = findPgBouncer()
  if (program === undefined) throw new Error("no pgbouncer on this machine")
  const { hostname, password, port: serverPort, username } = new URL(server)
  const identity = serverIdentity()
  const { directory, guard } = guardedDirectory("es-pgbouncer-")
  if (identity !== undefined) fs.chownSync(directory, identity.uid, identity.gid)
  const port = await freePort()
  const log = path.join(directory, "log")
  const secret = password === "" ? "" : ` password='${decodeURIComponent(password).replaceAll("'", "''")}'`
  const all = {
    listen_addr: "127.0.0.1",
    listen_port: port,
    unix_socket_dir: "",
    logfile: log,
    auth_type: "any",
    pool_mode: "transaction",
    default_pool_size: 4,
    max_client_conn: 500,
    ...settings
  }
  const file = path.join(directory, "pgbouncer.ini")
  fs.writeFileSync(
    file,
    [
      "[databases]",
      `* = host=${hostname} port=${serverPort || 5432} user=${decodeURIComponent(username)}${secret}`,
      "[pgbouncer]",
      ...Object.entries(all).map(([name, value]) => `${name} = ${value}`)
    ].join("\n"),
    { mode: 0o644 }
  )
  const child: ChildProcess = spawn(program, ["-q", file], {
    cwd: directory,
    stdio: "ignore",
    ...(identity === undefined ? {} : identity)
  })
  child.unref()
  guard.watch(child.pid)
  const through = (url: string): string => {
    const changed = new URL(url)
    changed.hostname = "127.0.0.1"
    changed.port = String(port)
    return changed.href
  }
  const stop = async (): Promise<void> => {
    await exitAfter(child, () => child.kill("SIGKILL"))
    guard.watch(undefined)
    await guard.release()
  }
  const deadline = Date.now() + readyTimeoutMs
  for (;;) {
    try {
      await withClient(through(server), (client) => client.query("select 1"))
      return { port, through, stop }
    } catch (cause) {
      const printed = fs.existsSync(log) ? fs.readFileSync(log, "utf8") : ""
      if (Date.now() > deadline || child.exitCode !== null) {
        await stop()
        throw new Error(`PgBouncer did not start on port ${port}; its log:\n${printed}`, { cause })
      }
      await delay(20)
    }
  }
}
