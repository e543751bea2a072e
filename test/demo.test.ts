/**
 * The demo (examples/git-history) on real repositories: what becomes of each kind of change and of odd paths, and that
 * an import ends up the same however often it is stopped. Git makes the repositories, and git is asked what is in them.
 */
import { execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { Chunk, DateTime, Effect, Layer, Stream } from "effect"
import { Aggregate, EventStore } from "effect-stores"
import { EventStoreMemory } from "effect-stores/memory"
import { EventStoreSqlite, SnapshotStoreSqlite } from "effect-stores/sqlite"
import { expect, it } from "vitest"
import * as FileEvents from "../examples/git-history/FileEvents.js"
import * as GitLog from "../examples/git-history/GitLog.js"
import { importHistory } from "../examples/git-history/importHistory.js"
import { describeWith, temporaryDirectory } from "./support/backends.js"
import { bundled, fromSources } from "./support/child.js"

const project = fileURLToPath(new URL("..", import.meta.url))

describeWith("git", "the events of a repository", () => {
  it("each kind of change is an event in the stream of its path, with author, commit, time and lines", async () => {
    const repository = new TestRepository()
    repository
      .write("a.txt", "1\n2\n3\n4\n5\n")
      .write("b.bin", Buffer.from([0, 1, 2]))
      .commit("2020-01-01T10:00:00Z")
    repository.write("a.txt", "1\n2\n3\n4\nfive\nsix\n").commit("2020-01-02T10:00:00+02:00")
    repository.git("mv", "a.txt", "c.txt")
    repository.write("c.txt", "1\n2\n3\n4\nfive\nsix\nseven\n").commit("2020-01-03T10:00:00Z")
    repository.git("rm", "-q", "b.bin", "c.txt")
    repository.commit("2020-01-04T10:00:00Z")
    const [first, second, third, fourth] = repository.commits()

    const events = await importInMemory(repository.path)

    const by = { author: "Ann Author <ann@example.org>" }
    const at = (time: string) => DateTime.unsafeMake(time)
    expect(streams(events)).toEqual({
      "a.txt": [
        { _tag: "Added", lines: { added: 5, removed: 0 }, commit: first, time: at("2020-01-01T10:00:00Z"), ...by },
        { _tag: "Modified", lines: { added: 2, removed: 1 }, commit: second, time: at("2020-01-02T08:00:00Z"), ...by },
        {
          ...{ _tag: "Deleted", renamedTo: "c.txt", lines: { added: 0, removed: 0 } },
          ...{ commit: third, time: at("2020-01-03T10:00:00Z"), ...by }
        }
      ],
      "b.bin": [
        { _tag: "Added", lines: null, commit: first, time: at("2020-01-01T10:00:00Z"), ...by },
        { _tag: "Deleted", renamedTo: null, lines: null, commit: fourth, time: at("2020-01-04T10:00:00Z"), ...by }
      ],
      "c.txt": [
        {
          ...{ _tag: "Renamed", from: "a.txt", lines: { added: 1, removed: 0 } },
          ...{ commit: third, time: at("2020-01-03T10:00:00Z"), ...by }
        },
        {
          ...{ _tag: "Deleted", renamedTo: null, lines: { added: 0, removed: 7 } },
          ...{ commit: fourth, time: at("2020-01-04T10:00:00Z"), ...by }
        }
      ]
    })
    for (const event of events) {
      expect(event.createdAt).toEqual(event.data.time)
      expect(event.commandId).toBe(event.data.commit)
    }
  })

  it("a merge brings in all that was merged, once, and the files that exist are those of HEAD", async () => {
    const repository = new TestRepository()
    repository.write("base", "1\n").commit()
    repository.git("checkout", "-q", "-b", "side")
    repository.write("side", "1\n").commit().write("side", "1\n2\n").commit()
    repository.git("checkout", "-q", "main")
    repository.write("base", "1\n2\n").commit()
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    repository.write("after", "").commit()

    const events = await importInMemory(repository.path)

    expect(summary(events)).toEqual({ base: ["Added", "Modified"], side: ["Added"], after: ["Added"] })
    expect(events.filter(({ data }) => data.path === "side").map(({ data }) => data.lines)).toEqual([
      { added: 2, removed: 0 }
    ])
    expect(existing(events)).toEqual(repository.files())
  })

  it("a change of mode or of type is a modification, an empty commit changes nothing", async () => {
    const repository = new TestRepository()
    repository.write("script", "1\n").write("link", "1\n").commit()
    repository.git("commit", "-q", "--allow-empty", "-m", "empty")
    fs.chmodSync(path.join(repository.path, "script"), 0o755)
    fs.rmSync(path.join(repository.path, "link"))
    fs.symlinkSync("script", path.join(repository.path, "link"))
    repository.commit()

    expect(summary(await importInMemory(repository.path))).toEqual({
      script: ["Added", "Modified"],
      link: ["Added", "Modified"]
    })
  })

  it("no path is lost, changed or taken for another, whatever is in it", async () => {
    const repository = new TestRepository()
    const long = `${"long/".repeat(50)}${"é".repeat(80)}`
    const paths = [
      ...[
        "with space",
        'with "quotes"',
        "with\nnewline",
        "with\ttab",
        "\n",
        "ünïcödé/文件",
        "🙂",
        "\ufeffbom",
        "-dash"
      ],
      ...[
        "back\\slash",
        "back\\\\slash",
        "\\xff",
        "\\#",
        "__proto__",
        "constructor",
        ":100644 100644 0 0 M",
        "1\t2\tx"
      ],
      ...[`1${long}`, `2${long}`, long, `${long}\\`, "\u001b[31m", "\ufffd"],
      ...[[0xff], [0xff, 0xfe], [0xc3, 0x28, 0xe2, 0x82], [0x5c, 0xff], [0xed, 0xa0, 0x80]]
    ].map((name) => (typeof name === "string" ? Buffer.from(name) : Buffer.from(name)))
    for (const name of paths) repository.write(name, "1\n")
    repository.commit()
    for (const name of paths) repository.write(name, "1\n2\n")
    repository.commit()

    const events = await importInMemory(repository.path)

    expect(existing(events)).toEqual(repository.files())
    expect(repository.files().length).toBe(paths.length)
    expect(new Set(events.map(({ aggregateId }) => aggregateId)).size).toBe(paths.length)
    for (const tags of Object.values(summary(events))) expect(tags).toEqual(["Added", "Modified"])
    // the common ones are as they are
    expect(events.map(({ aggregateId }) => aggregateId)).toEqual(expect.arrayContaining(["with space", "ünïcödé/文件"]))
  })

  it("what a user configured for git changes nothing", async () => {
    const repository = new TestRepository()
    repository.write("a", "1\n2\n3\n").commit()
    repository.git("mv", "a", "ü")
    repository.commit()
    repository.write("ü", "1\n").commit()
    const before = await importInMemory(repository.path)
    for (const [key, value] of [
      ...[
        ["diff.renames", "false"],
        ["log.showRoot", "false"],
        ["log.showSignature", "true"]
      ],
      ...[
        ["core.quotePath", "true"],
        ["color.ui", "always"],
        ["diff.noprefix", "true"],
        ["log.diffMerges", "off"]
      ],
      ...[
        ["log.mailmap", "true"],
        ["format.pretty", "oneline"],
        ["log.decorate", "full"],
        ["log.date", "relative"]
      ],
      ...[
        ["diff.external", "false"],
        ["i18n.logOutputEncoding", "latin1"],
        ["diff.statGraphWidth", "1"]
      ]
    ] as const) {
      repository.git("config", String(key), String(value))
    }
    expect(await importInMemory(repository.path)).toEqual(before)
  })
})

describeWith("git", "an import that goes on", () => {
  it("from between the parts of a commit that is too large for one append, without loss or repetition", async () => {
    const repository = new TestRepository()
    for (let i = 0; i < 2500; i++) repository.write(`file ${i}`, `${i}\n`)
    repository.commit().write("file 7", "changed\n").commit()
    await run(
      Effect.gen(function* () {
        const store = yield* EventStore.EventStore
        const history = yield* GitLog.open(repository.path)
        yield* importHistory(history, () => Effect.void)
        const whole = yield* Stream.runCollect(store.feed())
        const parts = [...whole].filter(({ domain }) => domain === "import")
        expect(parts.length).toBe(4)

        for (const { position } of parts) {
          // as if the import had been stopped before this part
          yield* store.maintenance.reset
          const kept = [...whole].filter((event) => event.position < position)
          for (const event of kept) yield* store.append(event, [event], { expected: "any" })
          yield* importHistory(history, () => Effect.void)
          const again = yield* Stream.runCollect(store.feed())
          expect([...again].map(withoutPosition)).toEqual([...whole].map(withoutPosition))
        }
      }).pipe(Effect.provide(EventStoreMemory.layer()))
    )
  })

  it("after it was killed, and ends up as one that was not", async () => {
    const commits = 1500
    const { path: repository } = longRepository(commits)
    const whole = path.join(temporaryDirectory(), "whole.db")
    expect((await demo([repository, "--db", whole])).code).toBe(0)
    const expected = await storedIn(whole)
    expect(expected.filter(({ domain }) => domain === "import").length).toBe(commits)

    const killed = path.join(temporaryDirectory(), "killed.db")
    let before = 0
    for (const signal of ["SIGKILL", "SIGINT", "SIGKILL"] as const) {
      const { code } = await demo([repository, "--db", killed], async (kill) => {
        await until(() => sizeOf(`${killed}-wal`) > 190_000)
        kill(signal)
      })
      if (signal === "SIGINT") expect(code).toBe(130)
      const { length } = await storedIn(killed)
      expect(length).toBeGreaterThan(before)
      before = length
    }
    // it was stopped on its way, not at its end
    expect(before).toBeLessThan(expected.length)

    const last = await demo([repository, "--db", killed])
    expect(last.stdout).toContain("going on after")
    expect(await storedIn(killed)).toEqual(expected)
  })

  it("beside another of the same history, and neither adds what the other has", async () => {
    const commits = 500
    const { path: repository } = longRepository(commits)
    const db = path.join(temporaryDirectory(), "shared.db")
    const both = await Promise.all([1, 2].map(() => demo([repository, "--db", db])))
    expect(both.map(({ code, stderr }) => ({ code, stderr }))).toEqual([1, 2].map(() => ({ code: 0, stderr: "" })))
    expect((await storedIn(db)).length).toBe(commits * 4)
  })

  it("with the commits that are new, and adds nothing when there are none", async () => {
    const repository = new TestRepository()
    repository.write("a", "1\n").commit()
    const db = path.join(temporaryDirectory(), "history.db")
    expect((await demo([repository.path, "--db", db])).stdout).toContain("Imported 1 commit as 2 events.")

    const second = await demo([repository.path, "--db", db])
    expect(second.code).toBe(0)
    expect(second.stdout).toContain(
      `Nothing new since ${repository.commits()[0]?.slice(0, 12)}, 2 events already there.`
    )

    repository.write("a", "1\n2\n").write("b", "1\n").commit()
    expect((await demo([repository.path, "--db", db])).stdout).toContain(
      "Imported 1 commit as 3 events, going on after"
    )
    expect((await storedIn(db)).map(({ type }) => type).sort()).toEqual([
      "Added",
      "Added",
      "CommitImported",
      "CommitImported",
      "Modified"
    ])
  })

  it("never mixes two versions of a history: when it was rewritten, it says so and adds nothing", async () => {
    const repository = new TestRepository()
    repository.write("a", "1\n").commit().write("a", "2\n").commit()
    const db = path.join(temporaryDirectory(), "history.db")
    await demo([repository.path, "--db", db])
    const before = await storedIn(db)

    repository.git("reset", "-q", "--hard", "HEAD~1")
    repository.write("a", "3\n").commit()
    const rewritten = await demo([repository.path, "--db", db])

    expect(rewritten.code).toBe(5)
    expectMessage(rewritten.stderr, /history was rewritten/)
    expect(await storedIn(db)).toEqual(before)

    // merged from the side, the commit imported last is an ancestor of HEAD, but not on its line
    const [imported] = before.flatMap(({ commandId, version }) => (version === 2 ? [commandId] : []))
    repository.git("merge", "-q", "-s", "ours", "-m", "merge", String(imported))
    expect((await demo([repository.path, "--db", db])).code).toBe(5)
    expect(await storedIn(db)).toEqual(before)
  })
})

describeWith("git", "a file as an aggregate", () => {
  it("is the same with and without its snapshot, which the next run finds, and both times are printed", async () => {
    const repository = new TestRepository()
    repository.write("long", "1\n").write("short", "1\n").commit()
    const change = (times: number) => {
      for (let i = 0; i < times; i++) repository.write("long", `${repository.commits().length + 1}\n`).commit()
    }
    change(6)
    const db = path.join(temporaryDirectory(), "history.db")
    const args = [repository.path, "--db", db]
    const lines = ({ stdout }: { readonly stdout: string }) =>
      stdout.split("\n").flatMap((line) => {
        const [, way, read, gave] =
          line.match(
            /^ {2}(with(?:out)? snapshots) +\d[\d.]* m?s +(\d+ events?(?: since .*?)?)(?: {2,}| (?=\+))(.*)$/
          ) ?? []
        return way === undefined ? [] : [{ way, read, gave }]
      })

    const first = await demo(args)
    expect(first.stderr).toBe("")
    expect(first.stdout).toContain("Loading long, as an aggregate")
    const [without, from] = lines(first)
    expect(without).toEqual({ way: "without snapshots", read: "7 events", gave: expect.stringMatching(/^\+/) })
    expect(from).toEqual({
      way: "with snapshots",
      read: "0 events since the snapshot at version 7",
      gave: without?.gave
    })

    change(3)
    expect(lines(await demo(args)).map(({ read }) => read)).toEqual([
      "10 events",
      "3 events since the snapshot at version 7"
    ])

    await run(
      Effect.gen(function* () {
        const [stream] = yield* Effect.map(
          Stream.runCollect(FileEvents.files.feed({ filter: { domain: FileEvents.domain, aggregateId: "long" } })),
          Chunk.toReadonlyArray
        )
        const id = stream ?? expect.fail("the file is not there")
        const replayed = yield* Aggregate.load(FileEvents.FileWithoutSnapshots, id)
        expect(replayed).toMatchObject({ version: 10, snapshotVersion: 0, replayed: 10 })
        expect(replayed.state).toMatchObject({ path: "long", exists: true, changes: 10 })
        expect(yield* Aggregate.load(FileEvents.File, id)).toEqual({ ...replayed, snapshotVersion: 7, replayed: 3 })
      }).pipe(
        Effect.provide(
          Layer.provideMerge(SnapshotStoreSqlite.layerFromDatabase(), EventStoreSqlite.layer({ filename: db }))
        )
      )
    )
  })
})

describeWith("git", "the tour", () => {
  it("shows what a snapshot saves, a live follower, a sealed store and an asset, and leaves nothing behind", async () => {
    const repository = new TestRepository()
    for (let i = 0; i < 3; i++) repository.write("a.txt", `${i}\n`).commit()
    const temporary = temporaryDirectory()
    const db = path.join(temporaryDirectory(), "history.db")
    const { code, stderr, stdout } = await demoWithTour([repository.path, "--db", db], undefined, project, {
      TMPDIR: temporary
    })
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    const shown = stdout.slice(stdout.indexOf("\nA long stream"))

    expect(shown).toContain("A long stream: the 3 events of a.txt, up to 10,000")
    expect(shown).toMatch(/^ {2}without snapshots +\S+ m?s +10,000 events +\+/m)
    expect(shown).toMatch(/^ {2}with snapshots +\S+ m?s +0 events since the snapshot at version 10,000 +\+/m)
    expect(shown).toMatch(/^ {2}The snapshot makes it [\d,]+ times as fast\.$/m)

    const seen = [...shown.matchAll(/^ {2}version ([\d,]+), (\w+), seen \S+ m?s after its append began$/gm)]
    expect(seen.map(([, version, what]) => [version, what])).toEqual([
      ["10,001", "added"],
      ["10,002", "modified"],
      ["10,003", "modified"]
    ])

    expect(shown).toContain("is the author, Ann Author, to be found on disk?")
    expect(shown).toMatch(/^ {2}plain\.db +\d+ times +3 events +\{"path":"a\.txt"/m)
    expect(shown).toMatch(/^ {2}sealed\.db +never +3 events +[\w-]{48}…$/m)

    expect(shown).toMatch(/from the event to the object, .* KiB, the same SHA-256$/m)
    // What is logged is a warning or worse: none belongs here.
    expect(stdout).not.toMatch(/WARN|ERROR|level=/)
    // The cache of the compiler is its own.
    expect(fs.readdirSync(temporary).filter((name) => name.startsWith("effect-stores"))).toEqual([])
  })
})

describeWith("git", "with --encrypt", () => {
  it("nothing of the events is readable in any file, and what it reports is the same as without", async () => {
    const repository = new TestRepository()
    for (let i = 0; i < 30; i++) repository.write("a.txt", `${i}\n`).commit()
    const marker = "ann@example.org"
    const folders = { plain: temporaryDirectory(), encrypted: temporaryDirectory() }
    const found = (folder: string) =>
      fs.readdirSync(folder).filter((name) => fs.readFileSync(path.join(folder, name)).includes(marker))
    const dbOf = (folder: string) => path.join(folder, "history.db")
    const plain = await demo([repository.path, "--db", dbOf(folders.plain)])
    const encrypted = await demo([repository.path, "--db", dbOf(folders.encrypted), "--encrypt"])
    expect([plain.code, encrypted.code, encrypted.stderr]).toEqual([0, 0, ""])
    expect(plain.stdout).toContain("Ann Author")
    // Between the name of the file and what it took.
    const report = ({ stdout }: { readonly stdout: string }) =>
      stdout.slice(stdout.indexOf("\n"), stdout.indexOf("Measured")).replace(/[\d.,]+ m?s\b|(?<= ) +/g, "")
    expect(report(plain)).toContain("30")
    expect(report(encrypted)).toBe(report(plain))
    expect(found(folders.plain)).toContain("history.db")
    expect(found(folders.encrypted)).toEqual([])

    // The key is in a file of its own, for its owner only, and is shown to nobody.
    const [keyFile = ""] = fs.readdirSync(folders.encrypted).filter((name) => name.endsWith(".keys.json"))
    expect(fs.statSync(path.join(folders.encrypted, keyFile)).mode & 0o777).toBe(0o600)
    const { keys } = JSON.parse(fs.readFileSync(path.join(folders.encrypted, keyFile), "utf8"))
    expect(encrypted.stdout).not.toContain(keys[0].key)
    expect(fs.readFileSync(dbOf(folders.encrypted)).includes(keys[0].key)).toBe(false)

    repository.write("a.txt", "more\n").commit()
    expect((await demo([repository.path, "--db", dbOf(folders.encrypted), "--encrypt"])).stdout).toMatch(
      /Imported 1 commit/
    )
    expect(found(folders.encrypted)).toEqual([])
    const forgotten = await demo([repository.path, "--db", dbOf(folders.encrypted)])
    expect(forgotten.code).toBe(4)
    expectMessage(forgotten.stderr, /without keys/)
  })
})

describeWith("git", "what cannot be imported", () => {
  it("is told in a sentence and an exit code, without a stack trace", async () => {
    const directory = temporaryDirectory()
    const missing = await demo([path.join(directory, "missing")])
    expect(missing.code).toBe(2)
    expectMessage(missing.stderr, /No such file or directory/)

    const noRepository = await demo([directory])
    expect(noRepository.code).toBe(2)
    expectMessage(noRepository.stderr, /not a git repository/)

    const empty = await demo([new TestRepository().path])
    expect(empty.code).toBe(3)
    expectMessage(empty.stderr, /without commits/)

    for (const args of [["--nonsense"], ["one", "two"], ["--db", ""]]) {
      const misused = await demo(args)
      expect(misused.code).toBe(2)
      expectMessage(misused.stderr, /Usage/)
    }

    const repository = new TestRepository().write("a", "1\n").commit()
    const notDatabase = path.join(directory, "not.db")
    fs.writeFileSync(notDatabase, "this is not a database, and long enough to be looked at ".repeat(200))
    for (const [db, message] of [
      [notDatabase, /file is not a database/],
      [directory, /unable to open database file/],
      [path.join(notDatabase, "below.db"), /cannot be created/]
    ] as const) {
      const failed = await demo([repository.path, "--db", db])
      expect(failed.code).toBe(4)
      expectMessage(failed.stderr, message)
    }
    expect(fs.readFileSync(notDatabase, "utf8")).toMatch(/^this is not a database/)
  })

  it("a shallow clone is imported as far as it goes, and says so", async () => {
    const repository = new TestRepository()
    repository.write("a", "1\n").commit().write("b", "1\n").commit().write("a", "2\n").commit()
    const clone = path.join(temporaryDirectory(), "clone")
    repository.git("clone", "-q", "--depth", "2", `file://${repository.path}`, clone)
    const { code, stdout } = await demo([clone, "--db", path.join(temporaryDirectory(), "history.db")])
    expect(code).toBe(0)
    expect(stdout).toContain("shallow clone")
    expect(stdout).toContain("Imported 2 commits")
  })
})

describeWith("git", "without a repository", () => {
  it("the bundled history is imported, and it says so", async () => {
    const archive = temporaryDirectory()
    for (const name of ["src", "examples", "package.json"]) {
      fs.cpSync(path.join(project, name), path.join(archive, name), { recursive: true })
    }
    fs.symlinkSync(path.join(project, "node_modules"), path.join(archive, "node_modules"))

    const first = await demo([], undefined, archive)
    expect(first.stderr).toBe("")
    expect(first.code).toBe(0)
    expect(first.stdout).toMatch(/not a git repository.*the bundled history is used/)
    expect(first.stdout).toMatch(/Imported \d+ commits? as/)
    expect((await demo([], undefined, archive)).stdout).toContain("Nothing new since")

    // an archive that was unpacked into somebody's repository is not that repository
    execFileSync("git", ["init", "-q", path.dirname(archive)], { env: gitEnvironment() })
    try {
      expect((await demo([], undefined, archive)).stdout).toMatch(/is another.*the bundled history is used/)
    } finally {
      fs.rmSync(path.join(path.dirname(archive), ".git"), { recursive: true })
    }

    const withoutGit = await demo([], undefined, archive, { PATH: path.join(archive, "nothing") })
    expect(withoutGit.code).toBe(0)
    expect(withoutGit.stdout).toMatch(/git cannot be run.*the bundled history is used/)
  })
})

/** A repository in a directory of its own, made with git as it comes. */
class TestRepository {
  readonly path = fs.realpathSync(temporaryDirectory())
  private commitsMade = 0

  constructor() {
    this.git("init", "-q", "-b", "main")
  }

  git(...args: ReadonlyArray<string>): Buffer {
    return execFileSync("git", ["-C", this.path, ...args], { env: gitEnvironment(), maxBuffer: 2 ** 28 })
  }

  write(name: string | Buffer, content: string | Buffer): this {
    const file = Buffer.concat([Buffer.from(`${this.path}/`), Buffer.from(name)])
    const slash = file.lastIndexOf("/")
    fs.mkdirSync(file.subarray(0, slash), { recursive: true })
    fs.writeFileSync(file, content)
    return this
  }

  commit(time = new Date(1_600_000_000_000 + ++this.commitsMade * 60_000).toISOString()): this {
    this.git("add", "--all")
    execFileSync("git", ["-C", this.path, "commit", "-q", "-m", "message"], {
      env: { ...gitEnvironment(), GIT_AUTHOR_DATE: "2001-01-01T00:00:00Z", GIT_COMMITTER_DATE: time }
    })
    return this
  }

  /** Oldest first. */
  commits(): Array<string> {
    return this.git("rev-list", "--reverse", "HEAD").toString().trim().split("\n")
  }

  /** The paths in HEAD, as hexadecimal bytes. */
  files(): Array<string> {
    const hex = this.git("ls-tree", "-r", "-z", "--name-only", "HEAD").toString("hex")
    return (hex.match(/../g) ?? [])
      .join(" ")
      .split(" 00")
      .map((path) => path.replaceAll(" ", ""))
      .filter(Boolean)
      .sort()
  }
}

const gitEnvironment = (): NodeJS.ProcessEnv => ({
  PATH: process.env.PATH,
  HOME: "/nonexistent",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_AUTHOR_NAME: "Ann Author",
  GIT_AUTHOR_EMAIL: "ann@example.org",
  GIT_COMMITTER_NAME: "Con Committer",
  GIT_COMMITTER_EMAIL: "con@example.org"
})

/** A history that takes a while to import. */
const longRepository = (commits: number): TestRepository => {
  const repository = new TestRepository()
  const script = Array.from({ length: commits }, (_, i) => {
    const who = `Ann <ann@example.org> ${1_600_000_000 + i} +0000`
    const files = [0, 1, 2].map(
      (k) => `M 100644 inline dir${k}/file ${(i * (k + 3)) % 50}\ndata <<END\n${i} ${k}\nEND\n`
    )
    return `commit refs/heads/main\nauthor ${who}\ncommitter ${who}\ndata 1\nm\n${files.join("")}`
  })
  execFileSync("git", ["-C", repository.path, "fast-import", "--quiet"], {
    input: script.join("\n"),
    env: gitEnvironment()
  })
  return repository
}

type Imported = EventStore.TypedEvent<FileEvents.FileEvent>

const run = <A, E>(effect: Effect.Effect<A, E>): Promise<A> => Effect.runPromise(effect)

const importInMemory = (repository: string): Promise<Array<Imported>> =>
  run(
    Effect.gen(function* () {
      yield* importHistory(yield* GitLog.open(repository), () => Effect.void)
      const events = yield* Stream.runCollect(FileEvents.files.feed({ filter: { domain: FileEvents.domain } }))
      return Array.from(events)
    }).pipe(Effect.provide(EventStoreMemory.layer()))
  )

/** What each stream says, without the path, which must be the stream's. */
const streams = (events: ReadonlyArray<Imported>) => {
  const found: Record<string, Array<unknown>> = {}
  for (const { aggregateId, data, version } of events) {
    const { path, ...rest } = data
    expect(path).toBe(aggregateId)
    const stream = [...(found[path] ?? []), rest]
    expect(stream.length).toBe(version)
    found[path] = stream
  }
  return found
}

const summary = (events: ReadonlyArray<Imported>): Record<string, Array<string>> => {
  const found = new Map<string, Array<string>>()
  for (const { data } of events) found.set(data.path, [...(found.get(data.path) ?? []), data._tag])
  return Object.fromEntries(found)
}

/** The paths that the events leave behind, as hexadecimal bytes. */
const existing = (events: ReadonlyArray<Imported>): Array<string> => {
  const states = new Map<string, FileEvents.FileState>()
  for (const { aggregateId, data } of events) {
    states.set(aggregateId, FileEvents.evolve(states.get(aggregateId) ?? FileEvents.initial, data))
  }
  return [...states.values()].flatMap(({ exists, path }) => (exists ? [bytesOf(path).toString("hex")] : [])).sort()
}

/** The way back from the text of a path to its bytes: that there is one shows that no two paths share a text. */
const bytesOf = (path: string): Buffer =>
  Buffer.concat(
    (path.match(/\\x[0-9a-f]{2}|\\\\|[^\\]+/g) ?? []).map((part) =>
      part === "\\\\"
        ? Buffer.from("\\")
        : part.startsWith("\\x")
          ? Buffer.from(part.slice(2), "hex")
          : Buffer.from(part)
    )
  )

const withoutPosition = ({ position: _, ...event }: EventStore.Event) => event

const inFile = <A, E>(filename: string, effect: Effect.Effect<A, E, EventStore.EventStore>): Promise<A> =>
  run(Effect.provide(effect, EventStoreSqlite.layer({ filename })))

/** All events of a file, in the order of their streams. */
const storedIn = (filename: string): Promise<Array<ReturnType<typeof withoutPosition>>> =>
  inFile(
    filename,
    Effect.gen(function* () {
      const events = yield* Stream.runCollect((yield* EventStore.EventStore).feed())
      return Array.from(events, withoutPosition)
    })
  )

const sizeOf = (file: string): number => fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** Without the tour, which takes longer than most imports here. */
const demo = (args: ReadonlyArray<string>, ...rest: DemoOptions) => demoWithTour([...args, "--no-tour"], ...rest)

type DemoOptions = Parameters<typeof demoWithTour> extends [unknown, ...infer Rest] ? Rest : never

/** Runs the demo as its own process: that of this project as a bundle, a copy elsewhere as the npm script does. */
const demoWithTour = async (
  args: ReadonlyArray<string>,
  meanwhile?: (kill: (signal: NodeJS.Signals) => void) => Promise<void>,
  directory = project,
  environment: NodeJS.ProcessEnv = {}
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> => {
  const main = path.join(directory, "examples/git-history/main.ts")
  const program = directory === project ? [bundled(main)] : fromSources(main)
  const child = spawn(process.execPath, [...program, ...args], {
    cwd: directory,
    env: { ...gitEnvironment(), GIT_CEILING_DIRECTORIES: path.dirname(path.dirname(directory)), ...environment },
    stdio: ["ignore", "pipe", "pipe"]
  })
  const output = { stdout: "", stderr: "" }
  child.stdout.on("data", (bytes: Buffer) => (output.stdout += bytes))
  child.stderr.on("data", (bytes: Buffer) => (output.stderr += bytes))
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve))
  try {
    if (meanwhile !== undefined) await Promise.race([meanwhile((signal) => child.kill(signal)), ended])
    return { code: await ended, ...output }
  } finally {
    child.kill("SIGKILL")
  }
}

const expectMessage = (stderr: string, message: RegExp): void => {
  expect(stderr).toMatch(message)
  expect(stderr).not.toMatch(/^\s+at /m)
}
