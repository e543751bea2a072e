/**
 * The rules of the source tree, held over every import of src: who may import whom, where drivers may be known, and that
 * imports form no circle.
 */
import assert from "node:assert/strict"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"
import { describe, test } from "vitest"

const root = fileURLToPath(new URL("../src", import.meta.url))

const backends = ["memory", "sql", "sqlite", "pg", "redis", "minio", "fs"]

/** A folder for each contract that has more than one file, named like it. */
const contractFolders = [
  "eventStore",
  "commandStore",
  "snapshotStore",
  "cacheStore",
  "dataStore",
  "checkpointStore",
  "projection",
  "aggregate",
  "crypto"
]

/** The contract modules on top of a folder: they and their folder may know each other's types. */
const folderOf = (contract: string): string =>
  ["CryptoService.ts", "Subjects.ts"].includes(contract)
    ? "crypto"
    : contract === "CacheStoreTwoLevels.ts"
      ? "cacheStore"
      : contract === "CommandWorker.ts"
        ? "commandStore"
        : `${contract.charAt(0).toLowerCase()}${contract.slice(1, -3)}`

/** Where packages other than Effect itself may be imported. A folder that is not named here imports none. */
const packagesOf: Readonly<Record<string, ReadonlyArray<string>>> = {
  sql: ["@effect/sql", "@effect/experimental"],
  sqlite: ["@effect/sql", "@effect/experimental", "better-sqlite3"],
  pg: ["@effect/sql", "@effect/experimental", "@effect/sql-pg", "pg"],
  redis: ["ioredis"],
  minio: ["minio"],
  testing: ["@effect/vitest", "vitest"]
}

/** The part of src that a file belongs to: `contract` for the files on top, else the name of its folder. */
const partOf = (file: string): string => {
  const [first, ...rest] = file.split("/")
  return rest.length === 0 ? "contract" : (first as string)
}

/** What a backend implements, and what seals are made of. */
const isPort = (file: string): boolean => /^[a-z]\w*\/[A-Z]\w*Encoded\.(js|ts)$/.test(file)

const isLayerModule = (file: string): boolean => /^(memory|sqlite|pg|redis|minio|fs)\/[A-Z]\w*\.(js|ts)$/.test(file)

interface Import {
  readonly specifier: string
  /** A dynamic import whose argument is no literal. */
  readonly computed: boolean
  /** Loaded only when the program asks for it. */
  readonly lazy: boolean
  /** Of types only: nothing of it is left when the program runs. */
  readonly typeOnly: boolean
}

const parsed = new Map<string, ReadonlyArray<Import>>()

const importsOf = (source: string, file: string): ReadonlyArray<Import> => {
  const found = parsed.get(source) ?? parse(source, file)
  parsed.set(source, found)
  return found
}

/** Imports and re-exports, those of types too, `import("x")` as value and as type, and `require("x")`. */
const parse = (source: string, file: string): ReadonlyArray<Import> => {
  const found: Array<Import> = []
  const add = (node: ts.Node | undefined, { lazy = false, typeOnly = false } = {}) => {
    if (node === undefined) return
    const literal = ts.isLiteralTypeNode(node) ? node.literal : node
    found.push(
      ts.isStringLiteralLike(literal)
        ? { specifier: literal.text, computed: false, lazy, typeOnly }
        : { specifier: literal.getText(), computed: true, lazy, typeOnly }
    )
  }
  const visit = (node: ts.Node): void => {
    // `import { type A }` is left as `import {}` by verbatimModuleSyntax, and runs.
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, { typeOnly: node.importClause?.isTypeOnly === true })
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, { typeOnly: node.isTypeOnly })
    else if (ts.isExternalModuleReference(node)) add(node.expression)
    else if (ts.isImportTypeNode(node)) add(node.argument, { typeOnly: true })
    else if (
      ts.isCallExpression(node) &&
      (node.expression.kind === ts.SyntaxKind.ImportKeyword ||
        (ts.isIdentifier(node.expression) && ["require", "createRequire"].includes(node.expression.text)))
    ) {
      add(node.arguments[0], { lazy: node.expression.kind === ts.SyntaxKind.ImportKeyword })
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(file, source, ts.ScriptTarget.ESNext, true))
  return found
}

const targetOf = (file: string, specifier: string): string => path.posix.join(path.posix.dirname(file), specifier)

const packageOf = (specifier: string): string =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/")

/** Why a file of src may not import this, undefined when it may. */
const objection = (file: string, { computed, lazy, specifier, typeOnly }: Import): string | undefined => {
  const part = partOf(file)
  if (computed) return "what it imports cannot be checked"
  if (specifier.startsWith(".")) {
    const target = targetOf(file, specifier)
    if (target.startsWith("..")) return "it leaves src"
    const other = partOf(target)
    if (target === "index.js") return "index.ts is for users"
    if (other === part || other === "internal") return undefined
    if (![...contractFolders, ...backends, "contract", "stores", "testing", "testkit"].includes(other))
      return "a part unknown"
    if (other === "testing" || other === "testkit") return "only tests import testing/ and testkit/"
    if (other === "contract") return undefined
    if (file === "index.ts") return isPort(target) ? undefined : "index.ts names contract modules and ports only"
    switch (part) {
      case "contract":
        return other === folderOf(file) ? undefined : "a contract imports its own folder only"
      case "testing":
        // Testing compares every backend with the one in memory.
        return isPort(target) || other === "memory" ? undefined : "testing/ knows no driver"
      case "testkit":
        return other === "memory" && isLayerModule(target) ? undefined : "testkit/ knows layers in memory only"
      case "stores":
        if (!isLayerModule(target)) return "stores/ knows layer modules only"
        return lazy || typeOnly ? undefined : "stores/ loads a backend only when it is chosen"
      case "internal":
        return "internal/ is what stores share, and knows none"
    }
    if (backends.includes(part)) {
      if (isPort(target)) return undefined
      return other === "sql" && (part === "sqlite" || part === "pg") ? undefined : "a backend imports ports only"
    }
    return part === "crypto" && isPort(target) ? undefined : "a store imports contracts only"
  }
  if (specifier.startsWith("node:")) return undefined
  if (specifier === "effect") return part === "testing" ? undefined : "the barrel is slow to load; import the module"
  if (specifier.startsWith("effect/")) return undefined
  if (packageOf(specifier) === "effect-stores") return "the sources import each other by path"
  return packagesOf[part]?.includes(packageOf(specifier)) ? undefined : `${part} may not import this package`
}

type Sources = ReadonlyArray<readonly [file: string, source: string]>

/** Groups of files each of which imports all others of its group, by way of others if need be. */
const circles = (sources: Sources, counts: (found: Import) => boolean): ReadonlyArray<ReadonlyArray<string>> => {
  const imports = new Map(
    sources.map(([file, source]) => [
      file,
      importsOf(source, file)
        .filter((found) => counts(found) && found.specifier.startsWith("."))
        .map(({ specifier }) => targetOf(file, specifier).replace(/\.js$/, ".ts"))
    ])
  )
  const reached = (from: string): ReadonlySet<string> => {
    const seen = new Set<string>()
    const next = [from]
    for (let file = next.pop(); file !== undefined; file = next.pop()) {
      for (const target of imports.get(file) ?? []) {
        if (!seen.has(target)) next.push(target)
        seen.add(target)
      }
    }
    return seen
  }
  const reach = new Map([...imports.keys()].map((file) => [file, reached(file)]))
  const groups = new Map<string, ReadonlyArray<string>>()
  for (const [file, targets] of reach) {
    if (!targets.has(file)) continue
    const group = [...targets].filter((target) => reach.get(target)?.has(file)).sort()
    groups.set(group.join(), group)
  }
  return [...groups.values()]
}

/** Circles that exist when the program runs. What is imported lazily has been loaded after. */
const runtimeCircles = (sources: Sources) => circles(sources, ({ lazy, typeOnly }) => !lazy && !typeOnly)

/** Circles of types, but for those between a contract and the files of its folder. */
const typeCircles = (sources: Sources) =>
  circles(sources, () => true).filter((group) => {
    const folders = new Set(group.map((file) => (partOf(file) === "contract" ? folderOf(file) : partOf(file))))
    const [folder, ...others] = [...folders]
    return others.length > 0 || !contractFolders.includes(folder as string)
  })

const violations = (file: string, source: string): ReadonlyArray<string> =>
  importsOf(source, file).flatMap((found) => {
    const why = objection(file, found)
    return why === undefined ? [] : [`${file} imports ${found.specifier}: ${why}`]
  })

/** The formatter holds code to this width, and leaves comments and texts alone. */
const columnsMax = 120

const longLines = ([file, source]: Sources[number]): ReadonlyArray<string> =>
  source.split("\n").flatMap((line, i) => ([...line].length > columnsMax ? [`${file}:${i + 1}`] : []))

const files = (fs.readdirSync(root, { recursive: true }) as Array<string>)
  .map((file) => file.split(path.sep).join("/"))
  .filter((file) => file.endsWith(".ts"))

const sources: Sources = files.map((file) => [file, fs.readFileSync(path.join(root, file), "utf8")])

describe("the source tree", () => {
  test("every import of src keeps the dependency rule", () => {
    assert.ok(files.length > 15)
    assert.ok(sources.flatMap(([file, source]) => importsOf(source, file)).length > 100)
    assert.deepEqual(
      sources.flatMap(([file, source]) => violations(file, source)),
      []
    )
  })

  test("imports form no circle at run time, and none of types beyond one store's contract and folder", () => {
    assert.deepEqual(runtimeCircles(sources), [])
    assert.deepEqual(typeCircles(sources), [])
  })

  test("the peers in package.json are the packages that src imports, all but Effect optional", () => {
    const { peerDependencies, peerDependenciesMeta } = JSON.parse(
      fs.readFileSync(path.join(root, "../package.json"), "utf8")
    )
    const imported = sources
      .flatMap(([file, source]) => importsOf(source, file))
      .filter(({ specifier }) => !/^(\.|node:)/.test(specifier))
      .map(({ specifier }) => packageOf(specifier))
    assert.deepEqual(Object.keys(peerDependencies).sort(), [...new Set(imported)].sort())
    assert.deepEqual(
      Object.keys(peerDependenciesMeta).sort(),
      Object.keys(peerDependencies)
        .filter((name) => name !== "effect")
        .sort()
    )
  })

  test("every folder of src is known to the rule", () => {
    const parts = new Set(files.map(partOf))
    const known = ["contract", "internal", "stores", "testing", "testkit", ...contractFolders, ...backends]
    assert.deepEqual(
      [...parts].filter((part) => !known.includes(part)),
      []
    )
  })

  test("no folder has more files than a reader takes in at a glance", () => {
    const counts = new Map<string, number>()
    for (const file of files) counts.set(path.posix.dirname(file), (counts.get(path.posix.dirname(file)) ?? 0) + 1)
    const large = [...counts].filter(([folder, count]) => count > (folder === "." ? 24 : 15))
    assert.deepEqual(large, [])
  })

  test("no line is longer than 120 columns", () => {
    assert.deepEqual(sources.flatMap(longLines), [])
    assert.deepEqual(longLines(["a.ts", `// \u{1f600}${"a".repeat(116)}\n//${"b".repeat(119)}`]), ["a.ts:2"])
  })

  const bad: ReadonlyArray<readonly [file: string, source: string]> = [
    ["EventStore.ts", `import { layer } from "./memory/EventStoreMemory.js"`],
    ["EventStore.ts", `import type { Pool } from "pg"`],
    ["EventStore.ts", `type Pool = import("pg").Pool`],
    ["EventStore.ts", `const load = () => import("better-sqlite3")`],
    ["EventStore.ts", `const load = (name: string) => import(name)`],
    ["EventStore.ts", `const load = require("pg")`],
    ["EventStore.ts", `import pg = require("pg")`],
    ["EventStore.ts", `import { Effect } from "effect"`],
    ["EventStore.ts", `import { EventStore } from "effect-stores"`],
    ["EventStore.ts", `import * as Sql from "@effect/sql/SqlClient"`],
    ["EventStore.ts", `export * from "./testing/index.js"`],
    ["EventStore.ts", `import { version } from "../package.json"`],
    ["EventStore.ts", `import { lift } from "./commandStore/lift.js"`],
    ["EventStore.ts", `import { EventStore } from "./index.js"`],
    ["index.ts", `export * as Hints from "./sqlite/index.js"`],
    ["index.ts", `export * as lift from "./eventStore/lift.js"`],
    ["internal/validate.ts", `import { connect } from "../pg/database/connection.js"`],
    ["internal/validate.ts", `import type { Encoded } from "../eventStore/EventStoreEncoded.js"`],
    ["commandStore/lift.ts", `import { append } from "../eventStore/input.js"`],
    ["crypto/eventStore.ts", `import { lift } from "../eventStore/lift.js"`],
    ["crypto/eventStore.ts", `import { layer } from "../memory/EventStoreMemory.js"`],
    ["stores/layer.ts", `import { layer } from "../pg/EventStorePg.js"`],
    ["stores/layer.ts", `const load = () => import("../pg/database/connection.js")`],
    ["memory/EventStoreMemory.ts", `import { lift } from "../eventStore/lift.js"`],
    ["rogue/a.ts", `import { lift } from "../other/lift.js"`],
    ["internal/validate.ts", `import "better-sqlite3"`],
    ["memory/EventStoreMemory.ts", `import { pool } from "../sql/ConnectionPool.js"`],
    ["memory/EventStoreMemory.ts", `import { suite } from "../testing/suite.js"`],
    ["sql/ConnectionPool.ts", `import { Client } from "pg"`],
    ["sql/ConnectionPool.ts", `import Database from "better-sqlite3"`],
    ["sql/ConnectionPool.ts", `import { PgDatabase } from "../pg/PgDatabase.js"`],
    ["sqlite/EventStoreSqlite.ts", `import { PgDatabase } from "../pg/PgDatabase.js"`],
    ["sqlite/EventStoreSqlite.ts", `import { Client } from "pg"`],
    ["pg/EventStorePg.ts", `import Database from "better-sqlite3"`],
    ["pg/EventStorePg.ts", `export { layer } from "../memory/EventStoreMemory.js"`],
    ["redis/SnapshotStoreRedis.ts", `import { ConnectionPool } from "../sql/ConnectionPool.js"`],
    ["redis/SnapshotStoreRedis.ts", `import { Client } from "pg"`],
    ["pg/SnapshotStorePg.ts", `import { Redis } from "ioredis"`],
    ["SnapshotStore.ts", `import type { Redis } from "ioredis"`],
    ["testing/suite.ts", `import { Client } from "pg"`],
    ["testing/suite.ts", `import { layer } from "../sqlite/EventStoreSqlite.js"`],
    ["testkit/TestStores.ts", `import { layer } from "../sqlite/EventStoreSqlite.js"`],
    ["testkit/TestStores.ts", `import { it } from "@effect/vitest"`],
    ["memory/EventStoreMemory.ts", `import { layer } from "../testkit/TestStores.js"`]
  ]
  for (const [file, source] of bad) {
    test(`the check objects to ${source} in ${file}`, () => assert.equal(violations(file, source).length, 1))
  }

  test("the check has no objection to what the rule allows", () => {
    const good: Sources = [
      ["index.ts", `export * as EventStore from "./EventStore.js"`],
      ["index.ts", `export * as EventStoreEncoded from "./eventStore/EventStoreEncoded.js"`],
      ["EventStore.ts", `import * as Effect from "effect/Effect"; import { typed } from "./eventStore/typed.js"`],
      ["CryptoService.ts", `import { seal } from "./crypto/seal.js"`],
      ["eventStore/lift.ts", `import { EventStore } from "../EventStore.js"; import "node:crypto"`],
      ["crypto/eventStore.ts", `import type { Encoded } from "../eventStore/EventStoreEncoded.js"`],
      ["stores/layer.ts", `const load = () => import("../pg/EventStorePg.js")`],
      ["stores/layer.ts", `import type { Options } from "../pg/EventStorePg.js"`],
      ["memory/EventStoreMemory.ts", `import { Hints } from "../internal/Hints.js"`],
      ["memory/EventStoreMemory.ts", `import { make } from "../eventStore/EventStoreEncoded.js"`],
      ["pg/EventStorePg.ts", `import { pool } from "../sql/ConnectionPool.js"; import { Client } from "pg"`],
      ["sqlite/EventStoreSqlite.ts", `import Database from "better-sqlite3"; import "../sql/ConnectionPool.js"`],
      ["redis/SnapshotStoreRedis.ts", `import { Redis } from "ioredis"; import { Tag } from "../SnapshotStore.js"`],
      ["testing/suite.ts", `import { it } from "@effect/vitest"; import { layer } from "../memory/index.js"`]
    ]
    assert.deepEqual(
      good.flatMap(([file, source]) => violations(file, source)),
      []
    )
  })

  test("the check sees circles", () => {
    const seeded = (file: string, source: string): Sources => [...sources, [file, source]]
    const lift = seeded("StreamId.ts", `import { lift } from "./eventStore/lift.js"`)
    assert.equal(runtimeCircles(lift).length, 1)
    const one = seeded("pg/a.ts", `import { b } from "./b.js"`)
    assert.equal(runtimeCircles([...one, ["pg/b.ts", `import { a } from "./a.js"`]]).length, 1)
    assert.equal(runtimeCircles([...one, ["pg/b.ts", `import type { a } from "./a.js"`]]).length, 0)
    assert.equal(runtimeCircles([...one, ["pg/b.ts", `const a = () => import("./a.js")`]]).length, 0)
    assert.equal(runtimeCircles([...one, ["pg/b.ts", `export { a } from "./a.js"`]]).length, 1)
    assert.equal(typeCircles([...one, ["pg/b.ts", `import type { a } from "./a.js"`]]).length, 1)
    assert.equal(runtimeCircles([...one, ["pg/b.ts", `import { type a } from "./a.js"`]]).length, 1)
    const own = seeded("eventStore/a.ts", `import type { EventStore } from "../EventStore.js"`)
    assert.equal(typeCircles([...own, ["EventStore.ts", `import type { a } from "./eventStore/a.js"`]]).length, 0)
    const foreign: Sources = [
      ["eventStore/a.ts", `import type { b } from "../internal/b.js"`],
      ["internal/b.ts", `import type { a } from "../eventStore/a.js"`]
    ]
    assert.equal(typeCircles(foreign).length, 1)
  })

  test("words in comments and texts are no imports", () => {
    assert.deepEqual(importsOf(`// import "pg"\nconst text = 'import "pg"' /* require("pg") */`, "a.ts"), [])
  })
})
