/**
 * Where the file of a SQLite database is: one path, resolved when the layer opens, and nothing that only looks like one;
 * and what becomes of directories and files that belong to somebody else.
 */
import { execFile } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { Effect, Layer } from "effect"
import { EventStoreSqlite } from "effect-stores/sqlite"
import { describe, expect, it, onTestFinished } from "vitest"
import { temporaryDirectory } from "../support/backends.js"
import { placed, readAll, streamOf, withStore } from "./support.js"

const opening = (filename: string) =>
  Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(EventStoreSqlite.layer({ filename })))))

const inDirectory = (directory: string) => {
  const before = process.cwd()
  process.chdir(directory)
  onTestFinished(() => process.chdir(before))
}

describe("a relative path", () => {
  it("leads to the file that was opened, wherever the process goes, also after readers were closed", async () => {
    const [home, elsewhere] = [temporaryDirectory(), temporaryDirectory()]
    inDirectory(home)
    const foreign = path.join(elsewhere, "events.db")
    await withStore({ filename: foreign }, (store) => store.append(streamOf("f"), [placed()], { expected: "noStream" }))
    const options = { filename: "events.db", pool: { connMaxIdleTime: "30 millis" } } as const
    await withStore(options, (store, { filename, state }) =>
      Effect.gen(function* () {
        expect(filename).toBe(path.join(fs.realpathSync(home), "events.db"))
        yield* store.append(streamOf("1"), [placed()], { expected: "noStream" })
        process.chdir(elsewhere)
        expect(yield* readAll(store, "1")).toHaveLength(1)
        while ((yield* state).readers.open > 0) yield* Effect.sleep("10 millis")
        expect(yield* readAll(store, "1")).toHaveLength(1)
        yield* store.append(streamOf("1"), [placed()], { expected: 1 })
        expect(yield* readAll(store, "1")).toHaveLength(2)
      })
    )
    expect(fs.readdirSync(elsewhere)).toEqual(["events.db"])
    expect(fs.readdirSync(home)).toEqual(["events.db"])
  })
})

describe("what is no path of a file is refused, and makes no file of that name:", () => {
  it.each([
    "file:events.db",
    "file:./events.db",
    "file::memory:?cache=shared",
    "file:///tmp/events.db",
    "FILE:events.db",
    "sqlite:events.db",
    "sqlite://events.db",
    "sqlite3:events.db",
    "https://host/events.db",
    "C:\\data\\events.db",
    "~/events.db",
    "~user/events.db",
    "~",
    "$HOME/events.db",
    `\${HOME}/events.db`,
    "%APPDATA%/events.db",
    "events.db?mode=ro",
    "events.db?cache=shared&mode=memory",
    ":memory",
    ":Memory:",
    "::memory:",
    "data/",
    "events\uD800.db"
  ])("%s", async (filename) => {
    const directory = temporaryDirectory()
    inDirectory(directory)
    expect(await opening(filename)).toMatchObject({ _tag: "InvalidInput", what: "filename" })
    expect(fs.readdirSync(directory)).toEqual([])
  })

  it("and one that is meant is taken as a path", async () => {
    const directory = temporaryDirectory()
    inDirectory(directory)
    for (const filename of ["./file:events.db", "./~", "./:memory:", "a?b.db", "a b.db", "ü.db"]) {
      await withStore({ filename }, (store) => store.append(streamOf("1"), [placed()], { expected: "noStream" }))
    }
    expect(fs.readdirSync(directory).sort()).toEqual(
      [":memory:", "a b.db", "a?b.db", "file:events.db", "ü.db", "~"].sort()
    )
  })

  it("and the working directory being gone is no defect", async () => {
    const directory = temporaryDirectory()
    inDirectory(directory)
    fs.rmdirSync(directory)
    expect(await opening("events.db")).toMatchObject({ _tag: "InvalidInput", what: "filename" })
  })
})

const isRoot = process.getuid?.() === 0

const describeAsRoot = (title: string, define: () => void) =>
  isRoot
    ? describe(title, define)
    : describe.skip(`${title} [NOT TESTED: only the superuser can be other users]`, define)

describeAsRoot("a file of another user", () => {
  const [owner, reader] = [65_532, 65_533]
  const child = fileURLToPath(new URL("./child.ts", import.meta.url))

  /** Everything the other users need to reach. */
  const shared = (mode: number) => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "es-shared-"))
    onTestFinished(() => fs.rmSync(directory, { recursive: true, force: true }))
    fs.chmodSync(directory, mode)
    return directory
  }
  const bundled = async () => {
    const directory = shared(0o755)
    const file = path.join(directory, "child.mjs")
    // What the sources and their packages are in may be closed to other users, so all of it goes into one file.
    await promisify(execFile)(
      process.execPath,
      [
        "--input-type=module",
        "-e",
        `import { build } from "esbuild"
         await build({ entryPoints: [${JSON.stringify(child)}], outfile: ${JSON.stringify(file)}, bundle: true, format: "esm",
           platform: "node", conditions: ["source"], external: ["better-sqlite3"], logLevel: "error" })`
      ],
      { cwd: fileURLToPath(new URL("../..", import.meta.url)) }
    )
    const packages = path.join(directory, "node_modules")
    for (const name of ["better-sqlite3", "bindings", "file-uri-to-path"]) {
      const from = fileURLToPath(new URL(`../../node_modules/${name}`, import.meta.url))
      fs.cpSync(from, path.join(packages, name), {
        recursive: true,
        filter: (file) => !/\/(deps|src)(\/|$)/.test(file.slice(from.length))
      })
    }
    return file
  }
  const run = async (file: string, command: string, filename: string, uid: number) => {
    const options = { uid, gid: uid, cwd: "/" }
    return promisify(execFile)(process.execPath, [file, command, filename], options).then(
      ({ stdout }) => ({ status: 0, output: stdout }),
      (error: { readonly code: number; readonly stderr: string }) => ({ status: error.code, output: error.stderr })
    )
  }

  it("is read or refused, and stays one that its owner can write to", async () => {
    const file = await bundled()
    const directory = shared(0o777)
    const filename = path.join(directory, "events.db")
    expect(await run(file, "start", filename, owner)).toMatchObject({ status: 0 })
    const refused = await run(file, "read", filename, reader)
    expect(refused.status).toBe(1)
    expect(refused.output).toContain("belongs to another user")
    expect(fs.readdirSync(directory)).toEqual(["events.db"])
    expect(await run(file, "start", filename, owner)).toMatchObject({ status: 0 })
    // Nobody can write to it then, so nobody can be in its way.
    fs.chmodSync(filename, 0o444)
    expect(await run(file, "read", filename, reader)).toMatchObject({ status: 0 })
  })

  it("in a directory that is not writable is refused, and it says why", async () => {
    const file = await bundled()
    const directory = shared(0o777)
    const filename = path.join(directory, "events.db")
    expect(await run(file, "start", filename, owner)).toMatchObject({ status: 0 })
    fs.chmodSync(filename, 0o444)
    fs.chmodSync(directory, 0o555)
    const { output, status } = await run(file, "read", filename, reader)
    expect(status).toBe(1)
    expect(output).toContain("in WAL mode SQLite needs a directory that it can write to")
    expect(output).toContain(directory)
  })
})
