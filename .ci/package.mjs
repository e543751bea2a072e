// What `npm pack` would publish, used as an application would: installed beside its peers, every entry point imported
// from the built files, one event appended and read on each embedded backend. Needs `npm run build` before.
import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const root = new URL("..", import.meta.url).pathname
const directory = mkdtempSync(join(tmpdir(), "es-package-"))
try {
  const [{ filename, files }] = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", directory], { cwd: root })
  )
  for (const { path } of files) assert.match(path, /^(dist|src|docs)\/|^(package\.json|README\.md|LICENSE)$/)
  execFileSync("tar", ["-xzf", filename], { cwd: directory })
  // The peers are those of the clone; only the package itself is the packed one.
  const modules = join(directory, "node_modules")
  mkdirSync(modules)
  const { peerDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
  for (const name of Object.keys(peerDependencies)) {
    mkdirSync(join(modules, name, ".."), { recursive: true })
    symlinkSync(join(root, "node_modules", name), join(modules, name))
  }
  cpSync(join(directory, "package"), join(modules, "effect-stores"), { recursive: true })
  writeFileSync(
    join(directory, "main.mjs"),
    `import { Effect, Stream } from "effect"
     import { Aggregate, CommandStore, EventStore, SnapshotStore } from "effect-stores"
     import { DataStoreFileSystem } from "effect-stores/fs"
     import { EventStoreMemory } from "effect-stores/memory"
     import { DataStoreMinio } from "effect-stores/minio"
     import { CommandStorePg, EventStorePg, SnapshotStorePg } from "effect-stores/pg"
     import { SnapshotStoreRedis } from "effect-stores/redis"
     import { EventStoreSqlite } from "effect-stores/sqlite"
     const stream = { tenantId: "t", domain: "d", aggregateId: "a" }
     const program = Effect.gen(function* () {
       const store = yield* EventStore.EventStore
       yield* store.append(stream, [{ type: "Packed", data: 1 }], { expected: "noStream" })
       return (yield* Stream.runCollect(store.read(stream))).length
     })
     for (const layer of [EventStoreMemory.layer(), EventStoreSqlite.layer({ filename: "events.db" })]) {
       if ((await Effect.runPromise(Effect.provide(program, layer))) !== 1) process.exit(1)
     }
     for (const { layer } of [EventStorePg, SnapshotStorePg, CommandStorePg, SnapshotStoreRedis, DataStoreFileSystem, DataStoreMinio]) {
       if (typeof layer !== "function") process.exit(1)
     }
     for (const value of [Aggregate.load, CommandStore.CommandStore, SnapshotStore.SnapshotStore]) {
       if (value === undefined) process.exit(1)
     }`
  )
  execFileSync(process.execPath, ["main.mjs"], { cwd: directory, stdio: "inherit" })
  // The types, as docs/backends.md says how they are found.
  cpSync(join(directory, "main.mjs"), join(directory, "main.mts"))
  for (const name of ["typescript", "@types/node"]) {
    mkdirSync(join(modules, name, ".."), { recursive: true })
    symlinkSync(join(root, "node_modules", name), join(modules, name))
  }
  for (const [module, resolution] of [
    ["nodenext", "nodenext"],
    ["esnext", "bundler"]
  ]) {
    const options = ["--module", module, "--moduleResolution", resolution, "--strict", "--skipLibCheck", "--noEmit"]
    execFileSync(
      process.execPath,
      [join(modules, "typescript/bin/tsc"), "--target", "es2022", "--types", "node", ...options, "main.mts"],
      { cwd: directory, stdio: "inherit" }
    )
  }
  console.log(`the package works as packed: ${files.length} files`)
} finally {
  rmSync(directory, { recursive: true, force: true })
}
