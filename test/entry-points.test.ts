/**
 * What importing an entry point loads. Each is imported in a process of its own, whose resolver reports every
 * specifier that anything asks for, whether it can be found or not.
 */
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { describe, test } from "vitest"

const hooks = `
import { writeSync } from "node:fs"
export const resolve = (specifier, context, next) => {
  writeSync(1, "resolve " + specifier + "\\n")
  return next(specifier, context)
}`

const program = (entry: string): string => `
import Module, { register } from "node:module"
import { writeSync } from "node:fs"
// What is asked for by require does not pass the hooks of import.
const load = Module._load
Module._load = function (specifier) {
  writeSync(1, "resolve " + specifier + "\\n")
  return load.apply(this, arguments)
}
register("data:text/javascript," + encodeURIComponent(${JSON.stringify(hooks)}))
const loaded = await import(${JSON.stringify(entry)})
writeSync(1, "loaded " + Object.keys(loaded).join(",") + "\\n")
`

const run = async (entry: string): Promise<{ readonly specifiers: ReadonlyArray<string>; readonly names: string }> => {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--import", "tsx", "--conditions=source", "--input-type=module", "--eval", program(entry)],
    { cwd: new URL("..", import.meta.url), maxBuffer: 64 * 1024 * 1024 }
  )
  const lines = stdout.split("\n")
  return {
    specifiers: lines.filter((line) => line.startsWith("resolve ")).map((line) => line.slice("resolve ".length)),
    names: lines.find((line) => line.startsWith("loaded "))?.slice("loaded ".length) ?? ""
  }
}

const packages = ["better-sqlite3", "pg", "pg-native", "ioredis", "minio", "vitest"]
const scopes = ["@effect/sql", "@effect/platform", "@effect/experimental", "@effect/vitest"]
const backendFolders = /\/(sql|sqlite|pg|redis|minio|fs|testing)\/[^/]+\.(js|ts)$/

const isForeign = (specifier: string): boolean =>
  packages.some((name) => specifier === name || specifier.startsWith(`${name}/`)) ||
  scopes.some((scope) => specifier.startsWith(scope)) ||
  /\/node_modules\/(better-sqlite3|pg|pg-pool|ioredis|minio|vitest|@effect)\//.test(specifier) ||
  // Folders of this package only: Effect has folders of its own.
  (backendFolders.test(specifier) && !specifier.includes("node_modules"))

describe("importing an entry point", () => {
  test("effect-stores loads the contracts, and no driver and no backend", async () => {
    const { names, specifiers } = await run("effect-stores")
    assert.ok(names.includes("EventStore"))
    assert.ok(specifiers.some((specifier) => specifier.endsWith("/EventStore.js")))
    assert.deepEqual(specifiers.filter(isForeign), [])
    assert.deepEqual(
      specifiers.filter((specifier) => specifier.includes("/memory/")),
      []
    )
  })

  test("effect-stores/memory loads no driver and no other backend", async () => {
    const { names, specifiers } = await run("effect-stores/memory")
    assert.match(names, /^((\w+StoreMemory|MemoryDatabase|SubjectKeysMemory),?)+$/)
    assert.deepEqual(specifiers.filter(isForeign), [])
  })

  test("effect-stores/stores loads no driver and no backend", async () => {
    const { names, specifiers } = await run("effect-stores/stores")
    assert.equal(names, "Stores,StoresTest")
    assert.deepEqual(specifiers.filter(isForeign), [])
  })

  test("effect-stores/testkit loads no test runner, no driver, and no backend but that in memory", async () => {
    const { names, specifiers } = await run("effect-stores/testkit")
    assert.equal(names, "AggregateTest,Followers,ProjectionTest,TestStores")
    assert.deepEqual(specifiers.filter(isForeign), [])
  })

  test("none of them loads all of Effect", async () => {
    for (const entry of ["effect-stores", "effect-stores/memory", "effect-stores/stores", "effect-stores/testkit"]) {
      assert.ok(!(await run(entry)).specifiers.includes("effect"), `${entry} imports the barrel`)
    }
  })

  test("the check sees a driver where there is one: effect-stores/sqlite loads better-sqlite3 and not pg", async () => {
    const foreign = (await run("effect-stores/sqlite")).specifiers.filter(isForeign)
    assert.ok(foreign.includes("better-sqlite3"), foreign.join(", "))
    assert.ok(!foreign.includes("pg"))
  })

  test("effect-stores/pg loads pg and not better-sqlite3", async () => {
    const foreign = (await run("effect-stores/pg")).specifiers.filter(isForeign)
    assert.ok(foreign.includes("pg"), foreign.join(", "))
    assert.ok(!foreign.includes("better-sqlite3"))
  })

  test("effect-stores/redis loads ioredis and no other driver", async () => {
    const { names, specifiers } = await run("effect-stores/redis")
    assert.equal(names, "CacheStoreRedis,RedisDatabase,SnapshotStoreRedis")
    const foreign = specifiers.filter(isForeign)
    assert.ok(foreign.includes("ioredis"), foreign.join(", "))
    for (const other of ["pg", "better-sqlite3", "minio"]) assert.ok(!foreign.includes(other), other)
    assert.ok(!specifiers.includes("effect"), "imports the barrel")
  })

  test("effect-stores/minio loads minio and no other driver", async () => {
    const { names, specifiers } = await run("effect-stores/minio")
    assert.equal(names, "DataStoreMinio")
    const foreign = specifiers.filter(isForeign)
    assert.ok(foreign.includes("minio"), foreign.join(", "))
    for (const other of ["pg", "better-sqlite3", "ioredis"]) assert.ok(!foreign.includes(other), other)
    assert.ok(!specifiers.includes("effect"), "imports the barrel")
  })

  test("effect-stores/fs loads no driver", async () => {
    const { names, specifiers } = await run("effect-stores/fs")
    assert.equal(names, "DataStoreFileSystem")
    const foreign = specifiers.filter((specifier) => isForeign(specifier) && !/\/fs\//.test(specifier))
    assert.deepEqual(foreign, [])
  })
})
