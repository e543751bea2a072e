/**
 * What the tests of the backends on Redis share: snapshots, waiting for a condition, a proxy that breaks connections,
 * and what a server and this process say about connections.
 */
import * as net from "node:net"
import { setTimeout as delay } from "node:timers/promises"
import { Cause, Effect, Exit, type Layer, ManagedRuntime, Option, Redacted } from "effect"
import { SnapshotStore } from "effect-stores"
import { type RedisDatabase, SnapshotStoreRedis } from "effect-stores/redis"
import { onTestFinished } from "vitest"
import type { RedisServer } from "../support/redis.js"

export const stream = (aggregateId = "1") => ({ tenantId: "tenant", domain: "domain", aggregateId })

export const snapshot = (version: number, state: unknown = { version }): SnapshotStore.NewSnapshot => ({
  version,
  lastEventMark: "018f0000-0000-7000-8000-000000000001",
  schemaVersion: "1",
  state
})

export const save = (version: number, aggregateId?: string, state?: unknown) =>
  Effect.flatMap(SnapshotStore.SnapshotStore, (store) => store.save(stream(aggregateId), snapshot(version, state)))

/** The version that is stored, 0 for none. */
export const latest = (aggregateId?: string) =>
  Effect.flatMap(SnapshotStore.SnapshotStore, (store) =>
    Effect.map(store.latest(stream(aggregateId)), Option.match({ onNone: () => 0, onSome: ({ version }) => version }))
  )

export const delete_ = (aggregateId?: string) =>
  Effect.flatMap(SnapshotStore.SnapshotStore, (store) => store.delete(stream(aggregateId)))

type Services = SnapshotStore.SnapshotStore | RedisDatabase.RedisDatabase

/** A store until the end of the test. */
export const open = (options: SnapshotStoreRedis.Options) => {
  const runtime = ManagedRuntime.make(SnapshotStoreRedis.layer(options))
  onTestFinished(() => runtime.dispose())
  return {
    run: <A, E>(effect: Effect.Effect<A, E, Services>) => runtime.runPromise(effect),
    exit: <A, E>(effect: Effect.Effect<A, E, Services>) => runtime.runPromiseExit(effect),
    runFork: <A, E>(effect: Effect.Effect<A, E, Services>) => runtime.runFork(effect),
    close: () => runtime.dispose()
  }
}

export const at = ({ url }: RedisServer, rest: Partial<SnapshotStoreRedis.Options> = {}): SnapshotStoreRedis.Options =>
  ({ url: Redacted.make(url), ...rest }) as SnapshotStoreRedis.Options

/** The typed failure of an exit; anything else is an error of the test. */
export const failure = <A, E>(exit: Exit.Exit<A, E>): E => {
  if (Exit.isSuccess(exit)) throw new Error(`succeeded with ${JSON.stringify(exit.value)}`)
  return Option.getOrThrowWith(Cause.failureOption(exit.cause), () => new Error(`no failure: ${exit.cause}`))
}

export const built = <A, E>(layer: Layer.Layer<A, E>) =>
  Effect.runPromiseExit(Effect.scoped(Effect.asVoid(buildOf(layer))))
const buildOf = <A, E>(layer: Layer.Layer<A, E>) => Effect.provide(Effect.context<A>(), layer)

export const until = async (what: string, holds: () => boolean | Promise<boolean>): Promise<void> => {
  const deadline = Date.now() + 300_000
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`in vain: ${what}`)
    await delay(10)
  }
}

/** The connections of the library to a server: one line of `CLIENT LIST` each. */
export const clients = async (server: RedisServer): Promise<ReadonlyArray<string>> =>
  String(await server.command("client", "list"))
    .split("\n")
    .filter((line) => line.includes(" name=effect-stores "))

/** Sockets of this process that are open, whatever their state. */
export const sockets = (): number =>
  process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap" || name === "TCPConnectWrap").length

export interface Proxy {
  readonly port: number
  /** Connections that were accepted so far. */
  accepted: number
  /** Decides on what a client sends on the nth connection: pass it on, keep it, or cut the connection. */
  onData: (data: string, nth: number) => "pass" | "keep" | "cut"
}

/** A proxy before a server, until the end of the test. */
export const proxyOf = async (server: Pick<RedisServer, "port">): Promise<Proxy> => {
  const open = new Set<net.Socket>()
  const listener = net.createServer((near) => {
    const nth = ++proxy.accepted
    const far = net.connect(server.port, "127.0.0.1")
    for (const [socket, other] of [[near, far] as const, [far, near] as const]) {
      open.add(socket)
      socket.on("error", () => {})
      socket.on("close", () => {
        open.delete(socket)
        other.destroy()
      })
    }
    near.on("data", (data) => {
      const verdict = proxy.onData(data.toString("latin1"), nth)
      if (verdict === "pass") far.write(data)
      else if (verdict === "cut") near.destroy()
    })
    far.on("data", (data) => near.write(data))
  })
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve))
  onTestFinished(async () => {
    listener.close()
    for (const socket of open) socket.destroy()
  })
  const proxy: Proxy = { port: (listener.address() as net.AddressInfo).port, accepted: 0, onData: () => "pass" }
  return proxy
}
