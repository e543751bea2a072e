/**
 * Private PostgreSQL servers for tests: started from the machine's own binaries on a free port with a data directory
 * of their own, restartable and killable, and gone when the process that started them is gone, however it ended.
 * Which server a test run uses is not decided here but in servers.ts.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { promisify } from "node:util"
import { Client } from "pg"
import { createDatabase } from "./databases.js"
import { guardedDirectory } from "./guard.js"
import { freePort } from "./ports.js"
import { downloadedBinaries, downloadPostgres, isWanted, wantedMajor, wantedPostgres } from "./postgres-versions.js"
import { exitAfter, isExecutable, outputOf } from "./processes.js"

export interface PostgresOptions {
  /** `max_connections` of the server; 100 by default. */
  readonly maxConnections?: number
  /** Further server settings, as `postgres -c name=value` takes them. */
  readonly settings?: Readonly<Record<string, string>>
}

export interface PostgresServer {
  /** The maintenance database `postgres`, as its superuser. Stays the same over restarts. */
  readonly url: string
  readonly port: number
  /** Process id of the running postmaster, undefined while the server is down. */
  readonly pid: number | undefined
  /** Creates a database (with a unique name unless one is given) and returns its url. */
  readonly createDatabase: (name?: string) => Promise<string>
  /** Shuts down and starts again: `fast` rolls open transactions back, `immediate` leaves the crash to recovery. */
  readonly restart: (mode: "fast" | "immediate") => Promise<void>
  /** SIGKILL of the postmaster and all its children at once; resolves when none of them runs. */
  readonly kill: () => Promise<void>
  /** Starts a server that is down again, on the same port and data; resolves when it answers. */
  readonly start: () => Promise<void>
  /** Ends the server and removes its data directory; further calls do nothing. */
  readonly stop: () => Promise<void>
  /** What the server has logged so far. */
  readonly log: () => string
}

/** Time for a server to answer: crash recovery on a busy machine takes seconds, hanging must not take for ever. */
const readyTimeoutMillis = 120_000

/** Directory of a complete set of server binaries on this machine in a version that the run may use, if there is one. */
export const findPostgresBinaries = (): string | undefined => {
  const candidates = (process.env.PATH ?? "").split(path.delimiter)
  // there may be no pg_config, or only a client's
  candidates.push(outputOf("pg_config", ["--bindir"]) ?? "")
  const debian = "/usr/lib/postgresql"
  if (fs.existsSync(debian)) {
    const versions = fs.readdirSync(debian).filter((name) => /^\d+$/.test(name))
    versions.sort((a, b) => Number(b) - Number(a))
    candidates.push(...versions.map((version) => path.join(debian, version, "bin")))
  }
  const major = wantedMajor()
  if (major !== undefined) candidates.push(downloadedBinaries(major))
  return candidates.find(
    (dir) =>
      dir !== "" &&
      ["initdb", "postgres"].every((name) => isExecutable(dir, name)) &&
      // "postgres (PostgreSQL) 15.18 (Debian …)", "postgres (PostgreSQL) 18beta1"
      isWanted(outputOf(path.join(dir, "postgres"), ["--version"])?.match(/\d+/)?.[0] ?? "")
  )
}

/** Why servers cannot be started from this machine's own binaries, undefined when they can. */
const binariesMissing = (): string | undefined =>
  findPostgresBinaries() === undefined ? `no initdb and postgres of ${wantedPostgres()} on this machine` : undefined

/** As `binariesMissing`, after a download where the run is to use a version that this machine does not have. */
export const postgresMissing = async (): Promise<string | undefined> => {
  const missing = binariesMissing()
  const major = wantedMajor()
  if (missing === undefined || major === undefined) return missing
  try {
    await downloadPostgres(major)
    return binariesMissing()
  } catch (error) {
    return `${missing}, and no download: ${String(error).split("\n")[0]}`
  }
}

/** Starts a private server and resolves when it answers. Fails with the server's log when it does not. */
export const startPostgres = async (options: PostgresOptions = {}): Promise<PostgresServer> => {
  const bin = findPostgresBinaries()
  if (bin === undefined) throw new Error(binariesMissing())
  const identity = serverIdentity()
  const { directory: root, guard } = guardedDirectory("es-pg-")
  const data = path.join(root, "data")
  const logFile = path.join(root, "server.log")
  let port = 0
  let server: ChildProcess | undefined

  const log = () => (fs.existsSync(logFile) ? fs.readFileSync(logFile, "utf8") : "")

  const spawnServer = (command: string, args: ReadonlyArray<string>): ChildProcess => {
    const output = fs.openSync(logFile, "a")
    const child = spawn(path.join(bin, command), args, {
      ...identity,
      // its own session: a Ctrl-C at the terminal is for the test runner, which then stops the server in order
      detached: true,
      cwd: root,
      env: { PATH: process.env.PATH, LC_ALL: "C", TZ: "UTC" },
      stdio: ["ignore", output, output]
    })
    fs.closeSync(output)
    guard.watch(child.pid)
    return child
  }

  const initialize = async (locale: string): Promise<boolean> => {
    const args = ["-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", `--locale=${locale}`, "--no-sync"]
    const [code] = await once(spawnServer("initdb", args), "exit")
    guard.watch(undefined)
    return code === 0
  }

  const start = async (): Promise<void> => {
    if (server !== undefined) return
    const settings: Record<string, string> = {
      port: String(port),
      listen_addresses: "127.0.0.1",
      unix_socket_directories: root,
      max_connections: String(options.maxConnections ?? 100),
      // in the data directory, so that nothing is left in /dev/shm by a server that was killed
      dynamic_shared_memory_type: "mmap",
      ...options.settings
    }
    const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
    const child = spawnServer("postgres", ["-D", data, ...args])
    child.unref()
    server = child
    try {
      await untilReady(child, port, data)
    } catch (cause) {
      await shutdown("SIGQUIT")
      throw new Error(`PostgreSQL did not start on port ${port}; its log:\n${log()}`, { cause })
    }
  }

  const shutdown = async (signal: "SIGINT" | "SIGQUIT"): Promise<void> => {
    if (server === undefined) return
    await exitAfter(server, () => server?.kill(signal))
    server = undefined
    guard.watch(undefined)
  }

  const kill = async (): Promise<void> => {
    const pid = server?.pid
    if (server === undefined || pid === undefined) return
    // stopped first, so that it forks nobody while its children are counted
    server.kill("SIGSTOP")
    const children = await childrenOf(pid)
    await exitAfter(server, () => {
      for (const each of [pid, ...children]) signalIfAlive(each, "SIGKILL")
    })
    server = undefined
    guard.watch(undefined)
    while (children.some(isRunning)) await delay(5)
  }

  const stop = async (): Promise<void> => {
    await guard.release()
    server = undefined
  }

  try {
    if (identity !== undefined) fs.chownSync(root, identity.uid, identity.gid)
    if (!(await initialize("C.UTF-8"))) {
      fs.rmSync(data, { recursive: true, force: true })
      if (!(await initialize("C"))) throw new Error(`initdb failed:\n${log()}`)
    }
    for (let attempt = 1; ; attempt++) {
      port = await freePort()
      try {
        await start()
        break
      } catch (error) {
        // another process took the port between the look and the bind
        if (attempt === 5 || !log().includes("could not bind")) throw error
      }
    }
  } catch (error) {
    await stop()
    throw error
  }

  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  return {
    url,
    port,
    get pid() {
      return server?.pid
    },
    createDatabase: (name) => createDatabase(url, name),
    restart: async (mode) => {
      await shutdown(mode === "fast" ? "SIGINT" : "SIGQUIT")
      await start()
    },
    kill,
    start,
    stop,
    log
  }
}

/** PostgreSQL refuses to run as root, so root runs it as the user that the packages create for it. */
export const serverIdentity = (): { readonly uid: number; readonly gid: number } | undefined => {
  if (process.getuid?.() !== 0) return undefined
  const id = (flag: string) => Number(execFileSync("id", [flag, "postgres"], { stdio: ["ignore", "pipe", "pipe"] }))
  return { uid: id("-u"), gid: id("-g") }
}

/** Ready is a connection that answers from this data directory: on the same port there could be someone else's server. */
const untilReady = async (child: ChildProcess, port: number, data: string): Promise<void> => {
  const deadline = Date.now() + readyTimeoutMillis
  let last: unknown
  while (Date.now() < deadline) {
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`the server ended with ${child.exitCode ?? child.signalCode}`)
    }
    const client = new Client({
      host: "127.0.0.1",
      port,
      user: "postgres",
      database: "postgres",
      connectionTimeoutMillis: 20_000
    })
    client.on("error", () => {})
    try {
      await client.connect()
      const result = await client.query<{ data: string }>("SELECT current_setting('data_directory') AS data")
      if (result.rows[0]?.data === data) return
      last = new Error(`port ${port} belongs to another server`)
    } catch (error) {
      last = error
    } finally {
      await client.end().catch(() => {})
    }
    await delay(20)
  }
  throw new Error(`no answer within ${readyTimeoutMillis} ms`, { cause: last })
}

const signalIfAlive = (pid: number, signal: NodeJS.Signals | 0): boolean => {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}

/** Fields of /proc/<pid>/stat after the command name, which may itself contain spaces and parentheses. */
const procStat = (pid: number | string): ReadonlyArray<string> | undefined => {
  try {
    const text = fs.readFileSync(`/proc/${pid}/stat`, "utf8")
    return text.slice(text.lastIndexOf(")") + 2).split(" ")
  } catch {
    return undefined
  }
}

const childrenOf = async (parent: number): Promise<ReadonlyArray<number>> => {
  if (fs.existsSync("/proc/self/stat")) {
    const pids = fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name))
    return pids.filter((pid) => procStat(pid)?.[1] === String(parent)).map(Number)
  }
  const { stdout } = await promisify(execFile)("pgrep", ["-P", String(parent)])
  return stdout.split("\n").filter(Boolean).map(Number)
}

/** A zombie that nobody reaps holds nothing any more. */
const isRunning = (pid: number): boolean => signalIfAlive(pid, 0) && procStat(pid)?.[0] !== "Z"
