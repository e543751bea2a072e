/**
 * Where a test run gets its servers from: for each kind of server the ways to have one, tried in order. A way answers
 * with a server, or with the reason why it has none; a server that the user names but that is unfit is an error, since
 * testing against another one would hide it.
 */
import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { withClient } from "./databases.js"
import { startGuard } from "./guard.js"
import { freePort } from "./ports.js"
import { postgresMissing, startPostgres } from "./postgres.js"
import { isWanted, oldestPostgres, wantedMajor, wantedPostgres } from "./postgres-versions.js"
import { oldestRedis, redisBinaryMissing, startRedis, withRedis } from "./redis.js"

export interface FoundServer {
  readonly url: string
  /** True when this run started the server, so that nobody else can be using it. */
  readonly isPrivate: boolean
  /** Ends what was started; leaves a server that was there before as it is. */
  readonly stop: () => Promise<void>
}

export interface ServerKind {
  readonly title: string
  /**
   * The environment variable that narrows the ways down to the one it names, or to none (`off`). Unset or empty, all
   * are tried in order.
   */
  readonly variable: string
  readonly ways: Readonly<Record<string, () => Promise<FoundServer | { readonly missing: string }>>>
  /** What to do to have such a server, for the person who reads that there was none. */
  readonly remedy: string
}

const run = promisify(execFile)
const pgUrlVariable = "EFFECT_STORES_TEST_PG_URL"
const redisUrlVariable = "EFFECT_STORES_TEST_REDIS_URL"

/** Servers by the key under which tests ask for them. */
export const serverKinds = {
  pg: {
    title: "PostgreSQL",
    variable: "EFFECT_STORES_TEST_PG",
    ways: {
      url: async () => {
        const url = process.env[pgUrlVariable]
        if (!url) return { missing: `${pgUrlVariable} is not set` }
        await checkPostgres(url)
        return { url, isPrivate: false, stop: async () => {} }
      },
      local: async () => {
        const reason = await postgresMissing()
        if (reason !== undefined) return { missing: reason }
        const server = await startPostgres({ maxConnections: 200 })
        return { url: server.url, isPrivate: true, stop: server.stop }
      },
      docker: async () => {
        const major = wantedMajor()
        const reason = major === undefined ? await dockerMissing() : "docker-compose.yml has one version of PostgreSQL"
        if (reason !== undefined) return { missing: reason }
        const port = await freePort()
        const stop = await composeUp("postgres", { EFFECT_STORES_PG_PORT: String(port) })
        return { url: `postgres://postgres@127.0.0.1:${port}/postgres`, isPrivate: true, stop }
      }
    },
    remedy: `install PostgreSQL ${oldestPostgres} or newer (Debian: apt-get install postgresql), or start Docker, or set ${pgUrlVariable}`
  },
  redis: {
    title: "Redis",
    variable: "EFFECT_STORES_TEST_REDIS",
    ways: {
      url: async () => {
        const url = process.env[redisUrlVariable]
        if (!url) return { missing: `${redisUrlVariable} is not set` }
        await checkRedis(url)
        return { url, isPrivate: false, stop: async () => {} }
      },
      local: async () => {
        const reason = redisBinaryMissing()
        if (reason !== undefined) return { missing: reason }
        const server = await startRedis()
        return { url: server.url, isPrivate: true, stop: server.stop }
      },
      docker: async () => {
        const reason = await dockerMissing()
        if (reason !== undefined) return { missing: reason }
        const port = await freePort()
        const stop = await composeUp("redis", { EFFECT_STORES_REDIS_PORT: String(port) })
        return { url: `redis://127.0.0.1:${port}`, isPrivate: true, stop }
      }
    },
    remedy: `install Redis ${oldestRedis} or newer (Debian: apt-get install redis-server), or start Docker, or set ${redisUrlVariable}`
  }
} satisfies Record<string, ServerKind>

/** Whether a way is open to this run, as the kind's variable says. */
export const isWayOpen = (kind: ServerKind, way: string): boolean => {
  const only = process.env[kind.variable] || "all"
  if (!["all", "off", ...Object.keys(kind.ways)].includes(only)) {
    throw new Error(`${kind.variable}=${only}: expected off or one of ${Object.keys(kind.ways).join(", ")}`)
  }
  return only === "all" || only === way
}

/** The first server that one of the open ways has, or the reasons why none has one. */
export const findServer = async (kind: ServerKind): Promise<FoundServer | { readonly missing: string }> => {
  const reasons: Array<string> = []
  for (const [name, way] of Object.entries(kind.ways)) {
    if (!isWayOpen(kind, name)) continue
    const found = await way()
    if ("url" in found) return found
    reasons.push(found.missing)
  }
  return { missing: reasons.length === 0 ? `${kind.variable}=off` : reasons.join("; ") }
}

const checkPostgres = async (url: string): Promise<void> => {
  const row = await withClient(url, async (client) => {
    const result = await client.query<{ version: string; creates: boolean }>(
      `SELECT current_setting('server_version') AS version, rolcreatedb OR rolsuper AS creates
       FROM pg_roles WHERE rolname = current_user`
    )
    return result.rows[0]
  }).catch((cause) => {
    throw new Error(`${pgUrlVariable}: no PostgreSQL answers there`, { cause })
  })
  if (row === undefined || !isWanted(row.version)) throw new Error(`${pgUrlVariable}: ${wantedPostgres()} is needed`)
  if (!row.creates) throw new Error(`${pgUrlVariable}: its user needs the right to create databases (CREATEDB)`)
}

const checkRedis = async (url: string): Promise<void> => {
  const info = await withRedis(url, (client) => client.info("server")).catch((cause) => {
    throw new Error(`${redisUrlVariable}: no Redis answers there`, { cause })
  })
  const version = Number(info.match(/redis_version:(\d+)/)?.[1])
  if (!(version >= oldestRedis)) throw new Error(`${redisUrlVariable}: Redis ${oldestRedis} or newer is needed`)
}

const dockerMissing = async (): Promise<string | undefined> => {
  try {
    // answers from the engine, where `docker --version` would answer from the client alone
    await run("docker", ["info", "--format", "{{.ServerVersion}}"], { timeout: 10_000 })
  } catch {
    return "no Docker engine answers"
  }
  try {
    await run("docker", ["compose", "version"], { timeout: 10_000 })
  } catch {
    return "Docker is there but its compose plugin is not"
  }
  return undefined
}

/** Starts one service of docker-compose.yml under a project name of its own; returns how to remove it again. */
const composeUp = async (service: string, variables: Record<string, string>): Promise<() => Promise<void>> => {
  const file = fileURLToPath(new URL("../../docker-compose.yml", import.meta.url))
  const compose = ["compose", "-f", file, "-p", `effect-stores-test-${randomUUID().slice(0, 8)}`]
  const guard = startGuard(["docker", ...compose, "down", "-v"])
  try {
    await run("docker", [...compose, "up", "-d", "--wait", service], { env: { ...process.env, ...variables } })
  } catch (error) {
    await guard.release()
    throw error
  }
  return guard.release
}
