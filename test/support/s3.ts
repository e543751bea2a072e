/**
 * Private S3 servers for tests, of two kinds that differ where S3 leaves room: Ceph's RADOS gateway and OpenStack Swift.
 * Both are started from the machine's own programs on free ports, with everything in a directory of their own, and are
 * gone when the process that started them is gone, however it ended.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { promisify } from "node:util"
import { guardedDirectory } from "./guard.js"
import { freePort } from "./ports.js"
import { exitAfter, isExecutable, outputOf } from "./processes.js"

export interface S3Server {
  readonly endpoint: string
  readonly accessKey: string
  readonly secretKey: string
  readonly stop: () => Promise<void>
}

const run = promisify(execFile)

const readyTimeoutMillis = 600_000

/** Keys in a page of a list: fewer than are asked for, as a server may have it, so that a long list needs few objects. */
export const pageKeys = 100

const programs = {
  ceph: ["radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool"],
  swift: [
    ...["swift-ring-builder", "swift-proxy-server", "swift-account-server", "swift-container-server"],
    ...["swift-object-server", "memcached"]
  ]
}

/** Debian keeps some servers where only root looks. */
const directories = [...(process.env.PATH ?? "").split(path.delimiter), "/usr/sbin", "/usr/local/sbin"]

/** Why such a server cannot be started here, undefined when it can. */
export const s3ProgramsMissing = (kind: keyof typeof programs): string | undefined => {
  const missing = programs[kind].filter((name) => !directories.some((directory) => isExecutable(directory, name)))
  if (missing.length > 0) return `no ${missing.join(", ")} on this machine`
  return kind === "swift" && swiftPlace() === undefined
    ? "no file system here takes the attributes of files with which Swift keeps long names (XFS does, or tmpfs)"
    : undefined
}

const env = { ...process.env, PATH: directories.join(path.delimiter) }

/** Several processes that live and end together, the last one first. */
const family = (directory: string) => {
  const children: Array<{ readonly name: string; readonly child: ChildProcess }> = []
  const logOf = (name: string) => path.join(directory, `${name}.out`)
  const logs = () =>
    children.map(({ name }) => `${name}:\n${fs.readFileSync(logOf(name), "utf8").slice(-2_000)}`).join("\n")
  return {
    logs,
    start: (name: string, program: string, args: ReadonlyArray<string>, more: NodeJS.ProcessEnv = {}) => {
      const output = fs.openSync(logOf(name), "a")
      const child = spawn(program, args, {
        // A group of its own: the guard ends it, and a Ctrl-C at the terminal does not reach it.
        detached: true,
        cwd: directory,
        env: { ...env, ...more },
        stdio: ["ignore", output, output]
      })
      fs.closeSync(output)
      child.on("error", () => {})
      child.unref()
      children.push({ name, child })
      fs.appendFileSync(path.join(directory, "pids"), `${child.pid}\n`)
    },
    until: async (what: string, holds: () => Promise<boolean>) => {
      const deadline = Date.now() + readyTimeoutMillis
      while (!(await holds().catch(() => false))) {
        const dead = children.find(({ child }) => child.exitCode !== null || child.signalCode !== null)
        if (dead !== undefined) throw new Error(`${dead.name} ended; ${logs()}`)
        if (Date.now() > deadline) throw new Error(`in vain for ${readyTimeoutMillis} ms: ${what}; ${logs()}`)
        await delay(50)
      }
    },
    stop: async () => {
      for (const { child } of children.toReversed()) await exitAfter(child, () => child.kill("SIGKILL"))
    }
  }
}

/** Some attempts: between the look for a port and its use somebody else may take it. */
const attempts = async <A>(start: () => Promise<A>): Promise<A> => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start()
    } catch (error) {
      if (attempt === 3) throw error
    }
  }
}

const inDirectory = (prefix: string, under?: string) => {
  // The guard of a directory runs whatever becomes of us; it ends the processes whose numbers stand in there first.
  const { directory, guard } = guardedDirectory(prefix, "KILL", under)
  const members = family(directory)
  const stop = async () => {
    await members.stop()
    await guard.release()
  }
  const watcher = spawn(
    "sh",
    [
      "-c",
      `cat >/dev/null; for p in $(cat "$1/pids" 2>/dev/null); do kill -KILL "$p" 2>/dev/null; done`,
      "sh",
      directory
    ],
    { detached: true, stdio: ["pipe", "ignore", "ignore"] }
  )
  watcher.stdin.on("error", () => {})
  watcher.unref()
  return { directory, members, stop }
}

const isListening = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1")
    socket.once("connect", () => {
      socket.destroy()
      resolve(true)
    })
    socket.once("error", () => resolve(false))
  })

const statusOf = async (url: string): Promise<number> => (await fetch(url)).status

/**
 * A monitor, one OSD that keeps everything in memory, and the gateway; no manager, no authentication between them. Needs
 * `bytes` of memory when it is full, and then hangs instead of failing.
 */
export const startCeph = (bytes = 4 * 2 ** 30): Promise<S3Server> =>
  attempts(async () => {
    const { directory, members, stop } = inDirectory("es-ceph-")
    try {
      const [s3, monitor] = [await freePort(), await freePort()]
      // The OSD takes the first four free ones.
      const first = await freePort()
      const [fsid, osd] = [randomUUID(), randomUUID()]
      const conf = path.join(directory, "ceph.conf")
      for (const name of ["log", "mon", "osd", "run"]) fs.mkdirSync(path.join(directory, name))
      fs.writeFileSync(
        conf,
        `[global]
fsid = ${fsid}
mon_host = [v2:127.0.0.1:${monitor}]
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
ms_bind_msgr1 = false
ms_bind_retry_count = 1
ms_bind_port_min = ${first}
ms_bind_port_max = ${first + 40}
run_dir = ${directory}/run
crash_dir = ${directory}/run
admin_socket =
log_file = ${directory}/log/$name.log
mon_cluster_log_file = ${directory}/log/cluster.log
pid_file =
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_crush_initial_weight = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 10000
# Pools are voted on in rounds of a second each otherwise.
paxos_propose_interval = 0.01
paxos_min_wait = 0.01
mon_data_avail_crit = 1
mon_data_avail_warn = 1
# The gateway asks for an encrypted session otherwise, which there is none of without authentication.
ms_mon_client_mode = crc
[mon]
mon_data = ${directory}/mon
[osd]
osd_data = ${directory}/osd
osd_objectstore = memstore
memstore_device_bytes = ${bytes}
# Both hold on to the buffers of past operations.
osd_enable_op_tracker = false
osd_min_pg_log_entries = 100
osd_max_pg_log_entries = 200
osd_pg_log_dups_tracked = 100
[client]
# Every GET and every list takes 40 ms otherwise.
rgw_frontends = beast endpoint=127.0.0.1:${s3} tcp_nodelay=1
rgw_thread_pool_size = 64
rgw_max_listing_results = ${pageKeys}
rgw_data = ${directory}/run
rgw_gc_obj_min_wait = 10
rgw_gc_processor_period = 10
rgw_gc_processor_max_time = 10
`
      )
      const map = path.join(directory, "monmap")
      const ceph = (...args: ReadonlyArray<string>) =>
        run("ceph", ["-c", conf, "--connect-timeout", "5", ...args], { env }).then(({ stdout }) => stdout.trim())
      await run("monmaptool", ["--create", "--fsid", fsid, "--addv", "a", `[v2:127.0.0.1:${monitor}]`, map], { env })
      await run("ceph-mon", ["--mkfs", "-i", "a", "-c", conf, "--monmap", map], { env })
      members.start("mon", "ceph-mon", ["-i", "a", "-f", "-c", conf])
      // A cluster that sits on this port already would take us in, and be spoilt.
      await members.until("a monitor", async () => (await ceph("fsid")) === fsid)
      await ceph("osd", "new", osd)
      await run("ceph-osd", ["--mkfs", "-i", "0", "-c", conf, "--osd-uuid", osd], { env })
      members.start("osd", "ceph-osd", ["-i", "0", "-f", "-c", conf])
      await members.until("an OSD", async () => (await ceph("osd", "stat")).includes(" 1 up"))
      const [accessKey, secretKey] = ["testkey", "testsecret"]
      await run(
        "radosgw-admin",
        [
          ...["-c", conf, "user", "create", "--uid=test", "--display-name=test", "--max-buckets=0"],
          ...[`--access-key=${accessKey}`, `--secret-key=${secretKey}`]
        ],
        { env }
      )
      members.start("rgw", "radosgw", ["-n", "client.rgw", "-f", "-c", conf])
      const endpoint = `http://127.0.0.1:${s3}`
      await members.until("the gateway", async () => (await statusOf(endpoint)) === 200)
      return { endpoint, accessKey, secretKey, stop }
    } catch (error) {
      await stop()
      throw error
    }
  })

/** The Python that has Swift's modules, which need not be the first in PATH: the one that Swift's programs name. */
const swiftPython = (): string => {
  const builder = directories.map((each) => path.join(each, "swift-ring-builder")).find((file) => fs.existsSync(file))
  const [, python = "python3"] = /^#!\s*(\S+)/.exec(builder === undefined ? "" : fs.readFileSync(builder, "utf8")) ?? []
  return python
}

/** The first folder whose file system takes attributes as large as Swift's, where names and metadata are long. */
const place = `
import os, sys, tempfile
for folder in sys.argv[1:]:
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            os.setxattr(file.name, "user.large", bytes(16000))
            print(folder)
            break
    except OSError:
        pass
`

/** Where Swift can keep its files: in memory if possible, since it syncs much. */
const swiftPlace = (): string | undefined =>
  outputOf(swiftPython(), ["-c", place, "/dev/shm", os.tmpdir()]) || undefined

/** Which server has what: all of it the only one. */
const rings = `
import sys
from swift.common.ring import RingBuilder
for each in sys.argv[2:]:
    kind, port = each.split(":")
    builder = RingBuilder(4, 1, 0)
    builder.add_dev(dict(region=1, zone=1, ip="127.0.0.1", port=int(port), device="sdb1", weight=1,
                         replication_ip="127.0.0.1", replication_port=int(port), meta=""))
    builder.rebalance()
    builder.get_ring().save(sys.argv[1] + "/" + kind + ".ring.gz")
`

/**
 * Of its servers each waits for the others for parts of a second, and then does without: lists are short of what was
 * just put, and one that was late ten times is not asked for a minute. On a busy machine all are late.
 */
const swiftPatience = `conn_timeout = 60
node_timeout = 60
container_update_timeout = 60
error_suppression_limit = 1000000`

/** A proxy with s3api, one server for each of accounts, containers and objects, and memcached. */
export const startSwift = (): Promise<S3Server> =>
  attempts(async () => {
    const { directory, members, stop } = inDirectory("es-swift-", swiftPlace())
    try {
      const file = (name: string, text: string) => {
        const at = path.join(directory, name)
        fs.writeFileSync(at, text)
        return at
      }
      const user = process.getuid?.() === 0 ? "root" : (process.env.USER ?? "nobody")
      const secretKey = "testsecret"
      const [cache, proxy] = [await freePort(), await freePort()]
      fs.mkdirSync(path.join(directory, "devices", "sdb1"), { recursive: true })
      file(
        "swift.conf",
        "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n[storage-policy:0]\nname = one\ndefault = yes\n"
      )
      members.start("memcached", "memcached", ["-l", "127.0.0.1", "-p", `${cache}`, "-m", "64", "-u", user])
      const ports = { account: await freePort(), container: await freePort(), object: await freePort() }
      // One program for all three: each takes a second or two to load.
      await run(swiftPython(), [
        "-c",
        rings,
        directory,
        ...Object.entries(ports).map(([kind, port]) => `${kind}:${port}`)
      ])
      for (const [kind, port] of Object.entries(ports)) {
        const conf = file(
          `${kind}-server.conf`,
          `[DEFAULT]
bind_ip = 127.0.0.1
bind_port = ${port}
workers = 0
user = ${user}
swift_dir = ${directory}
devices = ${directory}/devices
mount_check = false
disable_fallocate = true
log_level = ERROR
${swiftPatience}
[pipeline:main]
pipeline = ${kind}-server
[app:${kind}-server]
use = egg:swift#${kind}
`
        )
        members.start(kind, `swift-${kind}-server`, [conf], { SWIFT_DIR: directory })
      }
      const conf = file(
        "proxy-server.conf",
        `[DEFAULT]
bind_ip = 127.0.0.1
bind_port = ${proxy}
workers = 0
user = ${user}
swift_dir = ${directory}
log_level = ERROR
${swiftPatience}
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:${cache}
connect_timeout = 60
io_timeout = 60
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
max_bucket_listing = ${pageKeys}
[filter:tempauth]
use = egg:swift#tempauth
user_admin_admin = ${secretKey} .admin .reseller_admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
`
      )
      members.start("proxy", "swift-proxy-server", [conf], { SWIFT_DIR: directory })
      for (const [kind, port] of Object.entries(ports)) {
        await members.until(`the ${kind} server`, () => isListening(port))
      }
      const endpoint = `http://127.0.0.1:${proxy}`
      await members.until("the proxy", async () => (await statusOf(`${endpoint}/healthcheck`)) === 200)
      return { endpoint, accessKey: "admin:admin", secretKey, stop }
    } catch (error) {
      await stop()
      throw error
    }
  })
