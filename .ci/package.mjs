// What `npm pack` would publish, used as applications would: installed with each line of docs/backends.md into an
// application that is empty, compiled as ES module there, and run. With EFFECT_STORES_TEST=full the same with the oldest
// and the newest of all that package.json names as peers. Needs `npm run build` before. `node .ci/package.mjs oldest` is
// for one of the applications only.
import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const root = new URL("..", import.meta.url).pathname
const directory = mkdtempSync(join(tmpdir(), "es-package-"))
const run = (command, args, cwd) => execFileSync(command, args, { cwd, stdio: ["ignore", "pipe", "inherit"] })
const bin = (name) => join(root, "node_modules", ".bin", name)

const stored = (layer) => `
const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
const program = Effect.gen(function* () {
  const store = yield* EventStore.EventStore
  yield* store.append(stream, [{ type: "Packed", data: 1 }], { expected: "noStream" })
  return yield* store.version(stream)
})
if ((await Effect.runPromise(Effect.provide(program, ${layer}))) !== 1) throw new Error("not stored")`

/** A program for each entry point, and types beside its drivers' when libraries are checked. */
const applications = {
  memory: {
    main: `import { EventStoreMemory } from "effect-stores/memory"${stored("EventStoreMemory.layer()")}`
  },
  sqlite: {
    types: ["@types/better-sqlite3@7"],
    main: `import { EventStoreSqlite } from "effect-stores/sqlite"${stored('EventStoreSqlite.layer({ filename: "events.db" })')}`
  },
  pg: {
    types: ["@types/pg@8"],
    main: `import { CommandStorePg, EventStorePg } from "effect-stores/pg"
      import { Redacted } from "effect"
      const url = Redacted.make("postgres://127.0.0.1:1/none")
      const error = await Effect.runPromise(Effect.flip(Effect.provide(EventStore.EventStore, EventStorePg.layer({ url }))))
      if (error._tag !== "StoreUnavailable" || CommandStorePg.layer === undefined) throw error`
  },
  redis: {
    main: `import { SnapshotStoreRedis } from "effect-stores/redis"
      import { SnapshotStore } from "effect-stores"
      import { Redacted } from "effect"
      const layer = SnapshotStoreRedis.layer({ url: Redacted.make("redis://127.0.0.1:1") })
      const error = await Effect.runPromise(Effect.flip(Effect.provide(SnapshotStore.SnapshotStore, layer)))
      if (error._tag !== "StoreUnavailable" || EventStore.EventStore === undefined) throw error`
  },
  minio: {
    main: `import { DataStoreMinio } from "effect-stores/minio"
      import { DataStore } from "effect-stores"
      import { Redacted } from "effect"
      const layer = DataStoreMinio.layer({ endpoint: "http://127.0.0.1:1", accessKey: "a", secretKey: Redacted.make("s") })
      const exists = Effect.flatMap(DataStore.DataStore, (store) => store.buckets.exists("bucket"))
      const error = await Effect.runPromise(Effect.flip(Effect.provide(exists, layer)))
      if (error._tag !== "StoreUnavailable" || EventStore.EventStore === undefined) throw error`
  },
  fs: {
    main: `import { DataStoreFileSystem } from "effect-stores/fs"
      import { DataStore } from "effect-stores"
      const exists = Effect.flatMap(DataStore.DataStore, (store) => store.buckets.exists("bucket"))
      const found = await Effect.runPromise(Effect.provide(exists, DataStoreFileSystem.layer({ root: "objects" })))
      if (found || EventStore.EventStore === undefined) throw new Error("found")`
  },
  stores: { main: `import { Stores } from "effect-stores/stores"${stored("Stores.layer()")}` },
  testkit: {
    main: `import { TestStores } from "effect-stores/testkit"${stored("TestStores.layer")}`
  },
  testing: {
    main: `import { EventStoreSuite } from "effect-stores/testing"
      if (EventStoreSuite.contract === undefined || EventStore.EventStore === undefined) throw new Error("none")
      void Effect.void`,
    // The runner must be running for its modules to be loaded.
    isRun: false
  }
}

/** The table of docs/backends.md: entry point, and what to install beside `effect-stores` and `effect@3`. */
const lines = readFileSync(join(root, "docs/backends.md"), "utf8")
  .split("\n")
  .map((line) => /^\| `effect-stores\/(\w+)` +\| (.*) +\|$/.exec(line))
  .filter((match) => match !== null)
  .map(([, name, cell]) => ({ name, packages: /^`([^`]*)`/.exec(cell)?.[1] ?? "" }))
assert.deepEqual(lines.map(({ name }) => name).sort(), Object.keys(applications).sort())

const manifestOf = (path) => JSON.parse(readFileSync(join(root, path, "package.json"), "utf8"))
const { devDependencies, peerDependencies } = manifestOf(".")

const only = process.argv.slice(2)
const isFull = process.env.EFFECT_STORES_TEST === "full"

/** Installs the packages beside the packed one, compiles the programs of these entry points, and runs them. */
const applied = (packed, { isDriverOwn = false, isExtreme = false, names, packages, title, ways }) => {
  if (only.length > 0 ? !only.includes(title) : isExtreme && !isFull) return
  const application = join(directory, title)
  mkdirSync(application)
  writeFileSync(join(application, "package.json"), JSON.stringify({ private: true, type: "module" }))
  const types = [
    `@types/node@${devDependencies["@types/node"]}`,
    ...names.flatMap((name) => applications[name].types ?? [])
  ]
  const install = ["install", packed, ...packages, ...types]
  run("npm", [...install, "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"], application)
  // The native part of the SQLite driver is the clone's, which took a minute to compile; that of another version is not.
  const native = "node_modules/better-sqlite3/build"
  if (isDriverOwn && isFull) run("npm", ["rebuild", "better-sqlite3"], application)
  else if (!isDriverOwn && existsSync(join(application, "node_modules/better-sqlite3"))) {
    cpSync(join(root, native), join(application, native), { recursive: true })
  }
  for (const name of names) {
    const main = `import { Effect } from "effect"\nimport { EventStore } from "effect-stores"\n${applications[name].main}\n`
    writeFileSync(join(application, `${name}.ts`), main)
  }
  const sources = names.map((name) => `${name}.ts`)
  const strict = ["--strict", "--exactOptionalPropertyTypes", "--target", "es2022", "--types", "node", ...sources]
  for (const [module, resolution] of ways) {
    const how = ["--module", module, "--moduleResolution", resolution, "--skipLibCheck", "false"]
    const emit = module === "nodenext" ? [] : ["--noEmit"]
    run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), ...how, ...emit, ...strict], application)
  }
  for (const name of names) {
    const isRun = applications[name].isRun !== false && (name !== "sqlite" || !isDriverOwn || isFull)
    if (isRun) run(process.execPath, [`${name}.js`], application)
    console.log(`effect-stores/${name} ${isRun ? "works" : "compiles"} as packed`)
  }
  const versions = Object.keys(peerDependencies).flatMap((name) => {
    const installed = join(application, "node_modules", name, "package.json")
    return existsSync(installed) ? [`${name} ${JSON.parse(readFileSync(installed, "utf8")).version}`] : []
  })
  console.log(`  with ${versions.join(", ")}`)
}

const oldestOf = (range) => /\d+\.\d+\.\d+/.exec(range)[0]
const newestOf = (range) => range.split("||").at(-1).trim()

try {
  const [{ filename, files }] = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", directory], { cwd: root })
  )
  for (const { path } of files)
    assert.match(path, /^(dist|src|docs)\/|^(package\.json|README\.md|CHANGELOG\.md|LICENSE)$/)
  const packed = join(directory, filename)
  run(bin("publint"), ["run", packed, "--strict"], root)
  // Without what package.json does not promise: resolution as of Node 10, and CommonJS.
  run(bin("attw"), [packed, "--profile", "esm-only", "--format", "ascii"], root)

  // Entry points that need the same packages share an application.
  for (const packages of new Set(lines.map(({ packages }) => packages))) {
    const names = lines.filter((line) => line.packages === packages).map(({ name }) => name)
    applied(packed, {
      names,
      title: names.join("-"),
      packages: ["effect@3", ...packages.split(" ").filter((name) => name !== "")],
      // One application shows that bundlers resolve as Node does.
      ways: [["nodenext", "nodenext"], ...(names.includes("memory") ? [["preserve", "bundler"]] : [])]
    })
  }

  // npm takes the newest of what peers need themselves, which may need a newer Effect than the oldest.
  const theirs = Object.entries(manifestOf("node_modules/@effect/sql").peerDependencies).filter(
    ([name]) => peerDependencies[name] === undefined
  )
  const names = lines.map(({ name }) => name)
  const ways = [["nodenext", "nodenext"]]
  const ranges = [...Object.entries(peerDependencies), ...theirs]
  const at = (versionOf) => ranges.map(([name, range]) => `${name}@${versionOf(range)}`)
  applied(packed, { names, ways, title: "oldest", packages: at(oldestOf), isDriverOwn: true, isExtreme: true })
  // @effect/experimental, which SQL databases need, has a peer range of its own for ioredis, which ends before 6.
  const others = at(newestOf).filter((name) => !name.startsWith("ioredis@"))
  applied(packed, {
    names: names.filter((name) => name !== "redis"),
    ways,
    title: "newest",
    packages: others,
    isExtreme: true
  })
  const alone = ["effect", "ioredis"].map((name) => `${name}@${newestOf(peerDependencies[name])}`)
  applied(packed, { names: ["redis"], ways, title: "newest-redis", packages: alone, isExtreme: true })
  console.log(`the package works as packed: ${files.length} files`)
} finally {
  rmSync(directory, { recursive: true, force: true })
}
