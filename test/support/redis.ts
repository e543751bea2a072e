/**
 * Private Redis servers for tests, alone, as a cluster and under sentinels: started from the machine's own binary on
 * free ports, restartable, pausable and killable, and gone when the process that started them is gone, however it
 * ended. Which server a test run uses is not decided here but in servers.ts.
 */
import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { Redis } from "ioredis"
import { guardedDirectory } from "./guard.js"
import { freePort } from "./ports.js"
import { exitAfter, isExecutable, outputOf } from "./processes.js"

export interface RedisOptions {
  /** Asked of every client, and of replicas towards their master. */
  readonly password?: string
  /** Keeps what was acknowledged over restarts and kills; otherwise nothing reaches the disk. */
  readonly persistent?: boolean
  /** Further lines of redis.conf: `maxmemory` to `10mb`. */
  readonly settings?: Readonly<Record<string, string>>
}

export interface RedisServer {
  /** With the password, if it has one. Stays the same over restarts. */
  readonly url: string
  readonly port: number
  /** Process id of the running server, undefined while it is down. */
  readonly pid: number | undefined
  /** Runs one command on a connection of its own and answers with its raw reply. */
  readonly command: (name: string, ...args: ReadonlyArray<string | number>) => Promise<unknown>
  /** SIGKILL; resolves when it is gone. */
  readonly kill: () => Promise<void>
  /** Starts a server that is down again, on the same port; resolves when it answers. */
  readonly start: () => Promise<void>
  /** Kills and starts. */
  readonly restart: () => Promise<void>
  /** SIGSTOP: connections stay open and are accepted by the kernel, but nothing is answered. */
  readonly pause: () => void
  readonly resume: () => void
  /** Ends the server and removes its directory; further calls do nothing. */
  readonly stop: () => Promise<void>
  /** What the server has logged so far. */
  readonly log: () => string
}

export interface RedisCluster {
  /** The masters, each with a third of the slots. */
  readonly nodes: ReadonlyArray<RedisServer>
  /** Moves a slot and its keys to the node of that index, as a resharding does; from then on the others say MOVED. */
  readonly moveSlot: (slot: number, toIndex: number) => Promise<void>
  readonly stop: () => Promise<void>
}

export interface RedisSentinels {
  /** What the sentinels call the master. */
  readonly name: string
  readonly sentinels: ReadonlyArray<RedisServer>
  /** The two servers of data, whichever of them is the master. */
  readonly servers: ReadonlyArray<RedisServer>
  /** The master by the word of a majority of the sentinels. */
  readonly master: () => Promise<RedisServer>
  /** Makes the replica the master in order, without anyone being killed; resolves when the sentinels agree on it. */
  readonly failover: () => Promise<void>
  /** Kills the master; resolves with it when the sentinels agree on another, which takes a second or two. */
  readonly killMaster: () => Promise<RedisServer>
  readonly stop: () => Promise<void>
}

/** The oldest version that has all that the servers here are started with (`cluster-port`, ADDSLOTSRANGE). */
export const oldestRedis = 7

/** Time for a server or a group of them to be ready; hanging must not take for ever. */
const readyTimeoutMillis = 120_000

/** The server's program on this machine, if there is one that is new enough. */
export const findRedisBinary = (): string | undefined => {
  const directory = (process.env.PATH ?? "").split(path.delimiter).find((dir) => isExecutable(dir, "redis-server"))
  if (directory === undefined) return undefined
  const program = path.join(directory, "redis-server")
  // "Redis server v=7.0.15 sha=…"
  const version = Number(outputOf(program, ["--version"])?.match(/v=(\d+)/)?.[1])
  return version >= oldestRedis ? program : undefined
}

/** Why servers cannot be started from this machine's own binary, undefined when they can. */
export const redisBinaryMissing = (): string | undefined =>
  findRedisBinary() === undefined ? `no redis-server ${oldestRedis} or newer in PATH` : undefined

/** Runs `use` with one connection that does not reconnect, and closes it. */
export const withRedis = async <A>(url: string, use: (client: Redis) => Promise<A>): Promise<A> => {
  const client = new Redis(url, {
    lazyConnect: true,
    retryStrategy: () => null,
    // what a server says while it loads is an answer too
    enableReadyCheck: false,
    connectTimeout: 120_000,
    commandTimeout: 120_000
  })
  let lost: unknown
  client.on("error", (error) => {
    lost = error
  })
  try {
    await client.connect()
    return await use(client)
  } catch (error) {
    // "Connection is closed." hides why
    throw lost === undefined || lost === error ? error : new Error(String(error), { cause: lost })
  } finally {
    client.disconnect()
  }
}

/** Removes the keys of a server whose names begin with `prefix`, which has none of the characters of a pattern. */
export const deleteKeys = (url: string, prefix: string): Promise<void> =>
  withRedis(url, async (client) => {
    let cursor = "0"
    do {
      const [next, keys] = await client.scan(cursor, "MATCH", `${prefix}*`, "COUNT", 1000)
      if (keys.length > 0) await client.unlink(...keys)
      cursor = next
    } while (cursor !== "0")
  })

/** Starts a private server and resolves when it answers. Fails with the server's log when it does not. */
export const startRedis = (options: RedisOptions = {}): Promise<RedisServer> =>
  startServer([], {
    save: `""`,
    appendonly: options.persistent ? "yes" : "no",
    appendfsync: "always",
    // a replica is there at once, not five seconds later
    "repl-diskless-sync-delay": "0",
    ...(options.password && { requirepass: options.password, masterauth: options.password }),
    ...options.settings
  })

/** Starts masters that share the slots, and resolves when each of them says that the cluster is complete. */
export const startRedisCluster = async (options: RedisOptions = {}, masters = 3): Promise<RedisCluster> => {
  const slots = 16_384
  const first = (index: number) => Math.floor((slots * index) / masters)
  const busPorts = await Promise.all(Array.from({ length: masters }, freePort))
  const nodes = await startAll(
    busPorts.map((busPort) =>
      startRedis({
        ...options,
        settings: {
          "cluster-enabled": "yes",
          "cluster-port": String(busPort),
          "cluster-node-timeout": "2000",
          ...options.settings
        }
      })
    )
  )
  const stop = () => stopAll(nodes)
  const idOf = async (node: RedisServer) => String(await node.command("cluster", "myid"))
  return readyOrStop(stop, async () => {
    for (const [index, node] of nodes.entries()) {
      await node.command("cluster", "addslotsrange", first(index), first(index + 1) - 1)
      await node.command("cluster", "set-config-epoch", index + 1)
    }
    for (const [index, { port }] of nodes.entries()) {
      await nodes[0]?.command("cluster", "meet", "127.0.0.1", port, String(busPorts[index]))
    }
    await until("a complete cluster", async () => {
      const states = await Promise.all(nodes.map(async (node) => String(await node.command("cluster", "info"))))
      return states.every((info) => info.includes("cluster_state:ok") && info.includes(`known_nodes:${masters}`))
    })
    const moved = new Map<number, RedisServer>()
    const moveSlot = async (slot: number, toIndex: number) => {
      const to = nodes[toIndex]
      const from = moved.get(slot) ?? nodes[nodes.findIndex((_, index) => slot < first(index + 1))]
      if (to === undefined || from === undefined || to === from) throw new Error(`slot ${slot} is or goes nowhere`)
      const [fromId, toId] = await Promise.all([idOf(from), idOf(to)])
      await to.command("cluster", "setslot", slot, "importing", fromId)
      await from.command("cluster", "setslot", slot, "migrating", toId)
      for (;;) {
        const keys = (await from.command("cluster", "getkeysinslot", slot, 100)) as ReadonlyArray<string>
        if (keys.length === 0) break
        const auth = options.password ? ["auth", options.password] : []
        await from.command("migrate", "127.0.0.1", to.port, "", 0, 5000, ...auth, "keys", ...keys)
      }
      for (const node of [to, from, ...nodes]) await node.command("cluster", "setslot", slot, "node", toId)
      moved.set(slot, to)
    }
    return { nodes, moveSlot, stop }
  })
}

/** Starts a master, a replica and three sentinels, and resolves when the sentinels know all of them. */
export const startRedisSentinel = async (options: RedisOptions = {}): Promise<RedisSentinels> => {
  const name = "effect-stores"
  const running: Array<RedisServer> = []
  const started = async (server: Promise<RedisServer>) => {
    running.push(await server)
    return server
  }
  const stop = () => stopAll(running)
  return readyOrStop(stop, async () => {
    const first = await started(startRedis(options))
    const second = await started(
      startRedis({ ...options, settings: { ...options.settings, replicaof: `127.0.0.1 ${first.port}` } })
    )
    // A sentinel asks for replicas when it starts, and then only every ten seconds.
    await until("a connected replica", async () => {
      const info = String(await first.command("info", "replication"))
      return /slave0:.*state=online/.test(info)
    })
    const servers = [first, second]
    const sentinels = await startAll(
      Array.from({ length: 3 }, () =>
        started(
          startServer(["--sentinel"], {
            [`sentinel monitor ${name}`]: `127.0.0.1 ${first.port} 2`,
            ...(options.password && { [`sentinel auth-pass ${name}`]: options.password }),
            [`sentinel down-after-milliseconds ${name}`]: "500",
            [`sentinel failover-timeout ${name}`]: "2000"
          })
        )
      )
    )
    const master = async () => {
      const votes = await Promise.all(
        sentinels.map(async (sentinel) => {
          const address = (await sentinel.command("sentinel", "get-master-addr-by-name", name)) as [string, string]
          return Number(address[1])
        })
      )
      const elected = servers.find(({ port }) => votes.filter((vote) => vote === port).length >= 2)
      if (elected === undefined) throw new Error(`the sentinels disagree: ${votes.join(", ")}`)
      return elected
    }
    const untilOtherThan = (old: RedisServer) =>
      until("another master", async () => {
        const elected = await master().catch(() => old)
        return elected !== old && /role:master/.test(String(await elected.command("info", "replication")))
      })
    await until("sentinels that know each other and the replica", async () => {
      const states = await Promise.all(
        sentinels.map(async (sentinel) => {
          const fields = (await sentinel.command("sentinel", "master", name)) as ReadonlyArray<string>
          const field = (key: string) => fields[fields.indexOf(key) + 1]
          return field("flags") === "master" && field("num-slaves") === "1" && field("num-other-sentinels") === "2"
        })
      )
      return states.every(Boolean)
    })
    return {
      name,
      sentinels,
      servers,
      master,
      failover: async () => {
        const old = await master()
        await sentinels[0]?.command("sentinel", "failover", name)
        await untilOtherThan(old)
      },
      killMaster: async () => {
        const old = await master()
        await old.kill()
        await untilOtherThan(old)
        return old
      },
      stop
    }
  })
}

/** A server with a directory and a port of its own; its file of settings is the server's to rewrite afterwards. */
const startServer = async (
  args: ReadonlyArray<string>,
  settings: Readonly<Record<string, string>>
): Promise<RedisServer> => {
  const program = findRedisBinary()
  if (program === undefined) throw new Error(redisBinaryMissing())
  // by SIGKILL: there is nothing to put in order, and a paused server hears nothing else
  const { directory, guard } = guardedDirectory("es-redis-", "KILL")
  const configFile = path.join(directory, "redis.conf")
  const logFile = path.join(directory, "server.log")
  let port = 0
  let server: ChildProcess | undefined

  const log = () => (fs.existsSync(logFile) ? fs.readFileSync(logFile, "utf8") : "")
  const url = () => `redis://${settings.requirepass ? `:${settings.requirepass}@` : ""}127.0.0.1:${port}`
  const command: RedisServer["command"] = (name, ...args) => withRedis(url(), (client) => client.call(name, ...args))

  const start = async (): Promise<void> => {
    if (server !== undefined) return
    const output = fs.openSync(logFile, "a")
    const child = spawn(program, [configFile, ...args], {
      // its own session: a Ctrl-C at the terminal is for the test runner, which then stops the server in order
      detached: true,
      cwd: directory,
      stdio: ["ignore", output, output]
    })
    fs.closeSync(output)
    const failed = new Promise<never>((_, reject) => child.once("error", reject))
    failed.catch(() => {})
    guard.watch(child.pid)
    child.unref()
    server = child
    try {
      await Promise.race([failed, untilReady(child)])
    } catch (cause) {
      await kill()
      throw new Error(`Redis did not start on port ${port}; its log:\n${log()}`, { cause })
    }
  }

  /** Ready is an answer from this very process: on the same port there could be someone else's server. */
  const untilReady = async (child: ChildProcess) => {
    let last: unknown
    const info = () =>
      command("info").catch((error) => {
        last = error
        return ""
      })
    try {
      await until("an answer", async () => {
        if (child.exitCode !== null || child.signalCode !== null) throw new Error("the server ended")
        const answer = String(await info())
        return answer.includes(`process_id:${child.pid}\r\n`) && !/^loading:1/m.test(answer)
      })
    } catch (error) {
      throw last === undefined ? error : new Error(String(error), { cause: last })
    }
  }

  const kill = async (): Promise<void> => {
    if (server === undefined) return
    await exitAfter(server, () => server?.kill("SIGKILL"))
    server = undefined
    guard.watch(undefined)
  }

  const stop = async (): Promise<void> => {
    await guard.release()
    server = undefined
  }

  try {
    for (let attempt = 1; ; attempt++) {
      port = await freePort()
      const lines = Object.entries({ port: String(port), bind: "127.0.0.1", dir: directory, ...settings })
      fs.writeFileSync(configFile, lines.map(([name, value]) => `${name} ${value}\n`).join(""))
      try {
        await start()
        break
      } catch (error) {
        // another process took the port between the look and the bind
        if (attempt === 5 || !log().includes("Address already in use")) throw error
      }
    }
  } catch (error) {
    await stop()
    throw error
  }

  return {
    url: url(),
    port,
    get pid() {
      return server?.pid
    },
    command,
    kill,
    start,
    restart: async () => {
      await kill()
      await start()
    },
    pause: () => void server?.kill("SIGSTOP"),
    resume: () => void server?.kill("SIGCONT"),
    stop,
    log
  }
}

const until = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
  const deadline = Date.now() + readyTimeoutMillis
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`in vain for ${readyTimeoutMillis} ms: ${what}`)
    await delay(20)
  }
}

const stopAll = async (servers: ReadonlyArray<RedisServer>): Promise<void> => {
  await Promise.all(servers.map((server) => server.stop()))
}

/** All of them, or none is left running. */
const startAll = async (starting: ReadonlyArray<Promise<RedisServer>>): Promise<ReadonlyArray<RedisServer>> => {
  const outcomes = await Promise.allSettled(starting)
  const servers = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []))
  const failure = outcomes.find((outcome) => outcome.status === "rejected")
  if (failure === undefined) return servers
  await stopAll(servers)
  throw failure.reason
}

const readyOrStop = async <A>(stop: () => Promise<void>, ready: () => Promise<A>): Promise<A> => {
  try {
    return await ready()
  } catch (error) {
    await stop()
    throw error
  }
}
