/**
 * The dependency rule of the house, held over every import of src: contracts know no backend, backends know no other,
 * drivers are known where they are driven only.
 */
import assert from "node:assert/strict"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"
import { describe, test } from "vitest"

const root = fileURLToPath(new URL("../src", import.meta.url))

const backends = ["memory", "sql", "sqlite", "pg", "redis", "minio", "fs"]

/** Where packages other than Effect itself may be imported. A room that is not named here imports none. */
const packagesOf: Readonly<Record<string, ReadonlyArray<string>>> = {
  sql: ["@effect/sql", "@effect/experimental"],
  sqlite: ["@effect/sql", "@effect/experimental", "@effect/sql-sqlite-node", "better-sqlite3"],
  pg: ["@effect/sql", "@effect/experimental", "@effect/sql-pg", "pg"],
  redis: ["ioredis"],
  minio: ["minio"],
  fs: ["@effect/platform", "@effect/platform-node"],
  testing: ["@effect/vitest", "vitest"]
}

/** The room of a file of src: `contract`, `internal`, or the name of its folder. */
const roomOf = (file: string): string => {
  const [first, ...rest] = file.split("/")
  return rest.length === 0 ? "contract" : (first as string)
}

interface Import {
  readonly specifier: string
  /** A dynamic import whose argument is no literal. */
  readonly computed: boolean
}

/** Imports and re-exports, those of types too, `import("x")` as value and as type, and `require("x")`. */
const importsOf = (source: string, file: string): ReadonlyArray<Import> => {
  const found: Array<Import> = []
  const add = (node: ts.Node | undefined) => {
    if (node === undefined) return
    const literal = ts.isLiteralTypeNode(node) ? node.literal : node
    found.push(
      ts.isStringLiteralLike(literal)
        ? { specifier: literal.text, computed: false }
        : { specifier: literal.getText(), computed: true }
    )
  }
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) add(node.moduleSpecifier)
    else if (ts.isExternalModuleReference(node)) add(node.expression)
    else if (ts.isImportTypeNode(node)) add(node.argument)
    else if (
      ts.isCallExpression(node) &&
      (node.expression.kind === ts.SyntaxKind.ImportKeyword ||
        (ts.isIdentifier(node.expression) && ["require", "createRequire"].includes(node.expression.text)))
    ) {
      add(node.arguments[0])
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(file, source, ts.ScriptTarget.ESNext, true))
  return found
}

const packageOf = (specifier: string): string =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/")

/** Why a file of src may not import this, undefined when it may. */
const objection = (file: string, { computed, specifier }: Import): string | undefined => {
  const room = roomOf(file)
  if (computed) return "what it imports cannot be checked"
  if (specifier.startsWith(".")) {
    const target = path.posix.join(path.posix.dirname(file), specifier)
    if (target.startsWith("..")) return "it leaves src"
    const other = roomOf(target)
    if (other === room || other === "internal") return undefined
    if (other === "testing") return "only tests import testing/"
    // Testing compares every backend with the one in memory.
    if (room === "testing") return other === "contract" || other === "memory" ? undefined : "testing/ knows no driver"
    if (file === "index.ts" && other !== "contract") return "index.ts names contract modules only"
    if (!backends.includes(other)) return other === "contract" ? undefined : `${other}/ is no room of the house`
    if (!backends.includes(room)) return "contract modules import no backend"
    return other === "sql" && (room === "sqlite" || room === "pg") ? undefined : "a backend imports no other backend"
  }
  if (specifier.startsWith("node:")) return undefined
  if (specifier === "effect") return room === "testing" ? undefined : "the barrel is slow to load; import the module"
  if (specifier.startsWith("effect/")) return undefined
  if (packageOf(specifier) === "effect-stores") return "the sources import each other by path"
  return packagesOf[room]?.includes(packageOf(specifier)) ? undefined : `${room} may not import this package`
}

const violations = (file: string, source: string): ReadonlyArray<string> =>
  importsOf(source, file).flatMap((found) => {
    const why = objection(file, found)
    return why === undefined ? [] : [`${file} imports ${found.specifier}: ${why}`]
  })

const files = (fs.readdirSync(root, { recursive: true }) as Array<string>)
  .map((file) => file.split(path.sep).join("/"))
  .filter((file) => file.endsWith(".ts"))

describe("the dependency rule of the house", () => {
  test("every import of src keeps it", () => {
    assert.ok(files.length > 15)
    const sources = files.map((file) => [file, fs.readFileSync(path.join(root, file), "utf8")] as const)
    assert.ok(sources.flatMap(([file, source]) => importsOf(source, file)).length > 100)
    assert.deepEqual(
      sources.flatMap(([file, source]) => violations(file, source)),
      []
    )
  })

  test("every folder of src is a room that the rule knows", () => {
    const rooms = new Set(files.map(roomOf))
    assert.deepEqual(
      [...rooms].filter((room) => !["contract", "internal", "testing", ...backends].includes(room)),
      []
    )
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
    ["index.ts", `export * as Hints from "./sqlite/index.js"`],
    ["internal/validate.ts", `import { connect } from "../pg/PgConnection.js"`],
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
    ["testing/suite.ts", `import { layer } from "../sqlite/EventStoreSqlite.js"`]
  ]
  for (const [file, source] of bad) {
    test(`the check objects to ${source} in ${file}`, () => assert.equal(violations(file, source).length, 1))
  }

  test("the check has no objection to what the rule allows", () => {
    const good: ReadonlyArray<readonly [file: string, source: string]> = [
      ["index.ts", `export * as EventStore from "./EventStore.js"`],
      ["EventStore.ts", `import * as Effect from "effect/Effect"; import { make } from "./internal/eventStoreLift.js"`],
      ["internal/eventStoreLift.ts", `import { EventStore } from "../EventStore.js"; import "node:crypto"`],
      ["memory/EventStoreMemory.ts", `import { Hints } from "../internal/Hints.js"`],
      ["pg/EventStorePg.ts", `import { pool } from "../sql/ConnectionPool.js"; import { Client } from "pg"`],
      ["sqlite/EventStoreSqlite.ts", `import Database from "better-sqlite3"; import "../sql/ConnectionPool.js"`],
      [
        "redis/SnapshotStoreRedis.ts",
        `import { Redis } from "ioredis"; import { SnapshotStore } from "../SnapshotStore.js"`
      ],
      ["testing/suite.ts", `import { it } from "@effect/vitest"; import { layer } from "../memory/index.js"`]
    ]
    assert.deepEqual(
      good.flatMap(([file, source]) => violations(file, source)),
      []
    )
  })

  test("words in comments and texts are no imports", () => {
    assert.deepEqual(importsOf(`// import "pg"\nconst text = 'import "pg"' /* require("pg") */`, "a.ts"), [])
  })
})
