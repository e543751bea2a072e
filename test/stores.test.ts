/**
 * All five stores from one layer: each on the backend that Config names, with a driver that is loaded only then.
 */
import assert from "node:assert/strict"
import * as fs from "node:fs"
import * as path from "node:path"
import { inspect } from "node:util"
import { Config, ConfigProvider, Effect, Exit, Layer, Logger, Option, Redacted, Stream } from "effect"
import { CacheStore, CommandStore, CryptoService, DataStore, EventStore, SnapshotStore, Subjects } from "effect-stores"
import { CommandStoreMemory, EventStoreMemory, MemoryDatabase, SubjectKeysMemory } from "effect-stores/memory"
import { Stores, StoresTest } from "effect-stores/stores"
import { describe, onTestFinished, test } from "vitest"
import {
  describeOwnRedis,
  describePg,
  describeRedis,
  freshDatabase,
  freshKeyPrefix,
  redisUrl,
  temporaryDirectory
} from "./support/backends.js"
import { withClient } from "./support/databases.js"
import { startRedisCluster } from "./support/redis.js"
import { tables } from "./support/variables.js"

type Variables = Readonly<Record<string, string>>

const provider = (variables: Variables) =>
  Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables)), { pathDelim: "_" }))

/** What was logged while the effect ran. */
const logging = (lines: Array<string>) =>
  Logger.replace(
    Logger.defaultLogger,
    Logger.make(({ logLevel, message }) => {
      lines.push(`${logLevel.label} ${[message].flat().join(" ")}`)
    })
  )

const run = <A, E>(
  variables: Variables,
  effect: Effect.Effect<A, E, Stores.All>,
  { lines = [], layer = Stores.layer() }: { lines?: Array<string>; layer?: Layer.Layer<Stores.All, unknown> } = {}
) =>
  Effect.runPromiseExit(
    effect.pipe(Effect.provide(layer), Effect.provide(Layer.merge(provider(variables), logging(lines))))
  )

const order = { tenantId: "acme", domain: "order", aggregateId: "1" }

const payload = "secret-payload"

/** Puts something into each store; the backends that they say they have. */
const used = (prefix: string) =>
  Effect.gen(function* () {
    const events = yield* EventStore.EventStore
    const commands = yield* CommandStore.CommandStore
    const snapshots = yield* SnapshotStore.SnapshotStore
    const cache = yield* CacheStore.CacheStore
    const data = yield* DataStore.DataStore
    const appended = yield* events.append(order, [{ type: "Placed", data: payload }], { expected: "any" })
    yield* commands.create({ id: crypto.randomUUID(), tenantId: "acme", domain: "order", type: "Place", data: payload })
    yield* snapshots.save(order, { version: 1, lastEventMark: crypto.randomUUID(), schemaVersion: "1", state: payload })
    yield* cache.set("acme", prefix, payload)
    yield* data.buckets.create("bucket")
    yield* data.put({ bucket: "bucket", name: "invoice" }, Buffer.from(payload))
    assert.deepEqual(yield* cache.get("acme", prefix), Option.some(payload))
    assert.equal(appended.version, yield* events.version(order))
    const infos = yield* Effect.all([events.info, commands.info, snapshots.info, cache.info, data.info])
    return infos.map(({ backend }) => backend)
  })

const storesOn = (backend: string) => ({
  EVENT_STORE: backend,
  COMMAND_STORE: backend,
  SNAPSHOT_STORE: backend,
  CACHE_STORE: backend,
  DATA_STORE: backend
})

const keyOf = (digit: string) => "0123456789abcdef".repeat(4).replaceAll("0", digit)

const failure = (exit: Exit.Exit<unknown, unknown>): string => (Exit.isFailure(exit) ? String(exit.cause) : "none")

describe("Stores", () => {
  test("are in memory when nothing is said, and an empty variable says nothing", async () => {
    const lines: Array<string> = []
    const exit = await run({ EVENT_STORE: "", CACHE_STORE: " ", EVENT_STORE_POOL_MAX_OPEN_CONNS: "" }, used("k"), {
      lines
    })
    assert.deepEqual(exit, Exit.succeed(["InMemory", "InMemory", "InMemory", "InMemory", "InMemory"]))
    assert.deepEqual(lines, [
      "INFO EVENT_STORE memory, COMMAND_STORE memory, SNAPSHOT_STORE memory, CACHE_STORE memory, DATA_STORE memory"
    ])
  })

  test("on SQLite share one file, and one transaction", async () => {
    const filename = path.join(temporaryDirectory(), "all.db")
    const variables = { ...storesOn("sqlite"), SQLITE_FILENAME: filename, SQLITE_POOL_MAX_OPEN_CONNS: "3" }
    const lines: Array<string> = []
    assert.deepEqual(await run(variables, used("k"), { lines }), Exit.succeed(Array(5).fill("Sqlite")))
    assert.match(lines.join(), /^INFO EVENT_STORE sqlite \S+all\.db, COMMAND_STORE sqlite/)
    const again = Effect.flatMap(EventStore.EventStore, (store) => store.version(order))
    assert.deepEqual(await run(variables, again), Exit.succeed(1))
  })

  test("and a store in a file of its own has its own", async () => {
    const [filename, own] = [path.join(temporaryDirectory(), "all.db"), path.join(temporaryDirectory(), "own.db")]
    const variables = { EVENT_STORE: "sqlite", COMMAND_STORE: "sqlite", COMMAND_STORE_SQLITE_FILENAME: own }
    const lines: Array<string> = []
    assert.ok(Exit.isSuccess(await run({ ...variables, SQLITE_FILENAME: filename }, used("k"), { lines })))
    assert.match(lines.join(), /EVENT_STORE sqlite \S+all\.db, COMMAND_STORE sqlite \S+own\.db/)
    assert.match(failure(await run(variables, used("k"))), /SQLITE_FILENAME: "must be given"/)
    const onlyOwn = { ...variables, EVENT_STORE: "memory" }
    assert.ok(Exit.isSuccess(await run(onlyOwn, used("k"))))
    const halfGiven = { ...onlyOwn, COMMAND_STORE_SQLITE_FILENAME: "", COMMAND_STORE_SQLITE_SYNCHRONOUS: "OFF" }
    assert.match(
      failure(await run(halfGiven, used("k"))),
      /COMMAND_STORE_SQLITE_FILENAME: "must be given: COMMAND_STORE_SQLITE_\* stand/
    )
  })

  test("a file system keeps objects, and another backend the rest", async () => {
    const root = temporaryDirectory()
    const exit = await run({ DATA_STORE: "fs", FS_ROOT: root }, used("k"))
    assert.deepEqual(exit, Exit.succeed(["InMemory", "InMemory", "InMemory", "InMemory", "FileSystem"]))
    assert.ok(fs.readdirSync(root).length > 0)
  })

  test("keys in Config seal all that Config has chosen: nothing readable is on the disk", async () => {
    const root = temporaryDirectory()
    const filename = path.join(root, "all.db")
    const variables = {
      ...storesOn("sqlite"),
      DATA_STORE: "fs",
      SQLITE_FILENAME: filename,
      FS_ROOT: path.join(root, "o")
    }
    const found = (folder: string): ReadonlyArray<string> =>
      fs
        .readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && fs.readFileSync(path.join(entry.parentPath, entry.name)).includes(payload))
        .map(({ name }) => name)
    const keys = { ENCRYPTION_KEYS: `a=${keyOf("1")}`, ENCRYPTION_PRIMARY: "a" }
    const lines: Array<string> = []
    const exit = await run({ ...variables, ...keys }, used("k"), { lines })
    assert.deepEqual(exit, Exit.succeed(["Sqlite", "Sqlite", "Sqlite", "Sqlite", "FileSystem"]))
    assert.deepEqual(found(root), [])
    assert.match(lines.join(), /DATA_STORE fs \S+ \(sealed\)$/)
    assert.ok(!inspect(lines).includes(keyOf("1")))
    await run({ ...variables, SNAPSHOT_STORE: "memory", SQLITE_FILENAME: path.join(root, "plain.db") }, used("k"))
    assert.notDeepEqual(found(root), [])
  })

  test("durable refuses events in memory, by option and by variable, but not a layer of the application's own", async () => {
    const refusal = /EVENT_STORE: "must not be memory/
    assert.match(failure(await run({ DURABLE: "true" }, used("k"))), refusal)
    const layer = Stores.layer({ durable: true })
    assert.match(failure(await run({ EVENT_STORE: "memory" }, used("k"), { layer })), refusal)
    const inMemory = { EVENT_STORE: "sqlite", SQLITE_FILENAME: ":memory:", DURABLE: "true" }
    assert.match(failure(await run(inMemory, used("k"))), refusal)
    const own = Stores.layer({ durable: true, eventStore: EventStoreMemory.layer() })
    assert.ok(Exit.isSuccess(await run({ DURABLE: "true" }, used("k"), { layer: own })))
  })

  test("a layer of the application takes the place of a store, and of its variables", async () => {
    const lines: Array<string> = []
    const layer = Stores.layer({ eventStore: EventStoreMemory.layer({ readOnly: true }) })
    const append = Effect.flatMap(EventStore.EventStore, (store) =>
      Effect.flip(store.append(order, [{ type: "Placed", data: 1 }], { expected: "any" }))
    )
    const exit = await run({ EVENT_STORE: "pg" }, append, { lines, layer })
    assert.equal(Exit.isSuccess(exit) && exit.value._tag, "ReadOnly")
    assert.match(lines.join(), /EVENT_STORE by a layer of the application/)
  })

  test("a layer of the application takes the place of its store only, whatever else it gives", async () => {
    const both = Layer.merge(EventStoreMemory.layer(), CommandStoreMemory.layer())
    const filename = path.join(temporaryDirectory(), "all.db")
    const exit = await run({ COMMAND_STORE: "sqlite", SQLITE_FILENAME: filename }, used("k"), {
      layer: Stores.layer({ eventStore: both })
    })
    assert.deepEqual(exit, Exit.succeed(["InMemory", "Sqlite", "InMemory", "InMemory", "InMemory"]))
  })

  test("a CryptoService of the application seals them, with its rules for what is forgotten", async () => {
    const subject = { tenantId: "acme", id: order.aggregateId }
    const cipher = CryptoService.layer({ keys: [{ id: "a", key: Redacted.make(keyOf("1")) }], primary: "a" }).pipe(
      Subjects.withRules({ domains: [order.domain] }),
      Layer.provide(SubjectKeysMemory.layer()),
      Layer.provideMerge(Subjects.layerLedgerMemory())
    )
    const lines: Array<string> = []
    const forgotten = Effect.gen(function* () {
      yield* used("k")
      const events = yield* EventStore.EventStore
      yield* Subjects.shred(subject)
      return yield* Effect.flip(Stream.runDrain(events.read(order)))
    })
    const layer = Layer.provideMerge(Stores.layer({ cryptoService: cipher }), cipher)
    const exit = await Effect.runPromiseExit(
      forgotten.pipe(Effect.provide(layer), Effect.provide(Layer.merge(provider({}), logging(lines))))
    )
    assert.equal(Exit.isSuccess(exit) && exit.value._tag, "Shredded", failure(exit))
    assert.match(lines.join(), /EVENT_STORE memory \(sealed\)/)
    const none = Stores.layer({ cryptoService: 5 } as unknown as Stores.Options<never, never>)
    assert.match(failure(await run({}, used("k"), { layer: none })), /cryptoService: must be a Layer/)
  })

  test("the start line says what is sealed, and a warning that keys seal nothing", async () => {
    const keys = { ENCRYPTION_KEYS: `a=${keyOf("1")}`, ENCRYPTION_PRIMARY: "a" }
    const lines: Array<string> = []
    const layer = Stores.layer({ eventStore: EventStoreMemory.layer() })
    await run(keys, used("k"), { lines, layer })
    assert.match(lines.join(), /EVENT_STORE by a layer of the application, COMMAND_STORE memory \(sealed\)/)
    lines.length = 0
    await run({ ...keys, ENCRYPTION_POLICY: "ForbidEncryptAllowDecrypt" }, used("k"), { lines })
    assert.match(lines.join(), /EVENT_STORE memory \(written plain\)/)
  })

  test("layers of the application are built once, with what they share", async () => {
    let built = 0
    const database = Layer.tap(MemoryDatabase.layer, () => Effect.sync(() => built++))
    const layer = Layer.merge(
      Stores.layer({
        eventStore: Layer.provide(EventStoreMemory.layerFromDatabase(), database),
        commandStore: Layer.provide(CommandStoreMemory.layerFromDatabase(), database)
      }),
      database
    )
    assert.deepEqual(await run({}, used("k"), { layer }), Exit.succeed(Array(5).fill("InMemory")))
    assert.equal(built, 1)
  })

  test("what is no layer, and an option that there is not, are refused", async () => {
    const refused = async (options: unknown) =>
      failure(await run({}, used("k"), { layer: Stores.layer(options as Stores.Options<never, never>) }))
    assert.match(await refused({ eventStore: 5 }), /eventStore: must be a Layer/)
    assert.match(await refused({ eventStores: EventStoreMemory.layer() }), /a key of options/)
    assert.match(await refused({ durable: "yes" }), /durable: must be true or false/)
    assert.match(await refused(null), /options/)
  })

  test("StoresTest is in memory whatever Config says, and new each time", async () => {
    const variables = { EVENT_STORE: "pg", DURABLE: "true" }
    for (let n = 0; n < 2; n++) {
      const versions = Effect.flatMap(EventStore.EventStore, (store) =>
        Effect.zipRight(store.append(order, [{ type: "Placed", data: 1 }], { expected: "any" }), store.version(order))
      )
      assert.deepEqual(await run(variables, versions, { layer: StoresTest.layer }), Exit.succeed(1))
    }
    // The application's own Config stays as it is.
    const own = Effect.zipRight(EventStore.EventStore, Config.string("DURABLE"))
    assert.deepEqual(await run(variables, own, { layer: StoresTest.layer }), Exit.succeed("true"))
  })

  test("a store may be read-only by its variable", async () => {
    const create = Effect.flatMap(DataStore.DataStore, (store) => Effect.flip(store.buckets.create("bucket")))
    const minio = { MINIO_ENDPOINT: "http://127.0.0.1:1", MINIO_ACCESS_KEY: "a", MINIO_SECRET_KEY: "s" }
    for (const on of [{}, { DATA_STORE: "fs", FS_ROOT: temporaryDirectory() }, { DATA_STORE: "minio", ...minio }]) {
      const exit = await run({ ...on, DATA_STORE_READ_ONLY: "true" }, create)
      assert.equal(Exit.isSuccess(exit) && exit.value._tag, "ReadOnly", Object.keys(on).join())
    }
  })
})

describe("a variable that is wrong", () => {
  const secret = "hunter2-secret"
  const pg = { EVENT_STORE: "pg", PG_URL: `postgres://u:${secret}@127.0.0.1:1/d` }
  const cases: ReadonlyArray<readonly [variables: Variables, expected: ReadonlyArray<RegExp>]> = [
    [{ CACHE_STORE: "minio" }, [/CACHE_STORE: "must be one of memory, sqlite, pg, redis"/]],
    [{ EVENT_STORE: "redis" }, [/EVENT_STORE: "must be one of memory, sqlite, pg"/]],
    [{ EVENT_STORE: secret }, [/EVENT_STORE: "must be one of/]],
    [{ EVENT_STORE: "sqlite" }, [/SQLITE_FILENAME: "must be given"/]],
    [{ DATA_STORE: "fs" }, [/FS_ROOT: "must be given"/]],
    [{ DATA_STORE: "minio", MINIO_ENDPOINT: "http://h" }, [/MINIO_ACCESS_KEY: "must be given"/, /MINIO_SECRET_KEY/]],
    [
      { DATA_STORE: "minio", MINIO_ENDPOINT: secret, MINIO_ACCESS_KEY: "a", MINIO_SECRET_KEY: secret },
      [/MINIO_ENDPOINT: "must be a URL/]
    ],
    [{ ...pg, EVENT_STORE_POOL_MAX_OPEN_CONNS: "-1" }, [/EVENT_STORE_POOL_MAX_OPEN_CONNS: "must be a whole number/]],
    [{ ...pg, EVENT_STORE_POOL_MAX_OPEN_CONNS: "1e3" }, [/MAX_OPEN_CONNS/]],
    [{ ...pg, EVENT_STORE_POOL_MAX_OPEN_CONNS: "0x10" }, [/MAX_OPEN_CONNS/]],
    [{ ...pg, EVENT_STORE_POOL_MAX_OPEN_CONNS: "1.5" }, [/MAX_OPEN_CONNS/]],
    [{ ...pg, EVENT_STORE_POOL_CONN_MAX_LIFETIME: "30" }, [/CONN_MAX_LIFETIME: "must be a whole number and a unit/]],
    [{ ...pg, EVENT_STORE_POOL_CONN_MAX_LIFETIME: "5 constructor" }, [/CONN_MAX_LIFETIME: "must be a whole/]],
    [{ ...pg, EVENT_STORE_POOL_MAX_OPEN_CONNS: "2", EVENT_STORE_POOL_MAX_IDLE_CONNS: "3" }, [/MAX_IDLE_CONNS/]],
    [
      {
        ...pg,
        EVENT_STORE_POOL_MAX_OPEN_CONNS: "many",
        COMMAND_STORE: "pg",
        COMMAND_STORE_POOL_ACQUIRE_TIMEOUT: secret
      },
      [/EVENT_STORE_POOL_MAX_OPEN_CONNS/, /COMMAND_STORE_POOL_ACQUIRE_TIMEOUT/]
    ],
    [{ EVENT_STORE: "x", CACHE_STORE: "y", DURABLE: "yes" }, [/EVENT_STORE/, /CACHE_STORE/, /DURABLE: "must be true/]],
    [{ ...pg, PG_POOL_MAX_OPEN_CONNS: "3" }, [/PG_POOL_\*: "have no effect.*PG_SHARED=true/]],
    [{ ...pg, PG_SHARED: "true", EVENT_STORE_POOL_MAX_OPEN_CONNS: "3" }, [/EVENT_STORE_POOL_\*: "have no effect/]],
    [
      { EVENT_STORE: "sqlite", SQLITE_FILENAME: "a.db", EVENT_STORE_POOL_MAX_OPEN_CONNS: "3" },
      [/EVENT_STORE_POOL_\*: "have no effect.*SQLITE_POOL_\*/]
    ],
    [{ EVENT_STORE: "sqlite", SQLITE_FILENAME: "a.db/" }, [/SQLITE_FILENAME: "must be the path of a file/]],
    [{ ENCRYPTION_PRIMARY: "a" }, [/KEYS/]],
    [{ ENCRYPTION_KEYS: `a=${keyOf("1")}` }, [/PRIMARY/]],
    [{ ENCRYPTION_POLICY: "RequireEncrypt" }, [/ENCRYPTION_KEYS: "must be given/]],
    [
      { ENCRYPTION_KEY_FILE: "k.json", ENCRYPTION_KEYS: `a=${keyOf("1")}` },
      [/ENCRYPTION_KEY_FILE: "must not be given/]
    ],
    [{ ENCRYPTION_KEYS: `a=${secret}`, ENCRYPTION_PRIMARY: "a" }, [/the key a/]],
    [{ ENCRYPTION_KEYS: `a=${keyOf("1")}`, ENCRYPTION_PRIMARY: secret }, [/ENCRYPTION_PRIMARY: "is none of the keys"/]]
  ]
  for (const [variables, expected] of cases) {
    test(`is named, and its value is not shown: ${Object.keys(variables).join(" ")}`, async () => {
      const shown = failure(await run(variables, used("k")))
      for (const pattern of expected) assert.match(shown, pattern)
      for (const hidden of [secret, keyOf("1")]) assert.ok(!shown.includes(hidden), shown)
    })
  }
})

describePg("Stores on PostgreSQL", () => {
  const connections = (url: string) =>
    withClient(url, async (client) => {
      const { rows } = await client.query(
        "select count(*)::int as n from pg_stat_activity where datname = current_database() and application_name = 'es'"
      )
      return (rows[0] as { readonly n: number }).n
    })
  const parallel = Effect.flatMap(
    Effect.all([EventStore.EventStore, CommandStore.CommandStore]),
    ([events, commands]) =>
      Effect.all(
        Array.from({ length: 20 }, () => Effect.all([events.info, commands.info], { concurrency: 2 })),
        { concurrency: 20, discard: true }
      )
  )
  const both = { EVENT_STORE: "pg", COMMAND_STORE: "pg", PG_APPLICATION_NAME: "es" }

  test("each with a pool of its own, bounded by its variable", async () => {
    const url = await freshDatabase()
    const variables = {
      ...both,
      PG_URL: url,
      EVENT_STORE_POOL_MAX_OPEN_CONNS: "2",
      EVENT_STORE_POOL_MAX_IDLE_CONNS: "2",
      COMMAND_STORE_POOL_MAX_OPEN_CONNS: "1"
    }
    const exit = await run(
      variables,
      Effect.zipRight(
        parallel,
        Effect.promise(() => connections(url))
      )
    )
    assert.deepEqual(exit, Exit.succeed(3))
  })

  test("or with one pool for all of them", async () => {
    const url = await freshDatabase()
    const variables = { ...storesOn("pg"), ...both, PG_URL: url, PG_SHARED: "true", PG_POOL_MAX_OPEN_CONNS: "2" }
    const exit = await run(
      variables,
      Effect.zipRight(
        parallel,
        Effect.promise(() => connections(url))
      )
    )
    assert.deepEqual(exit, Exit.succeed(2))
    assert.deepEqual(await run(variables, used("k")), Exit.succeed(Array(5).fill("Pg")))
  })

  test("more than the server allows is one warning that names the numbers and the variables", async () => {
    const url = await freshDatabase()
    const lines: Array<string> = []
    await run({ ...both, PG_URL: url, EXPECTED_PROCESSES: "10" }, parallel, { lines })
    const warnings = lines.filter((line) => line.startsWith("WARN"))
    assert.equal(warnings.length, 1, inspect(warnings))
    assert.match(
      warnings.join(),
      /may open 510 connections .* allows \d+ .*EVENT_STORE_POOL_MAX_OPEN_CONNS \(25\), COMMAND_STORE_POOL_MAX_OPEN_CONNS \(25\) times EXPECTED_PROCESSES \(10\), beside 1 of each process that listens/
    )
    lines.length = 0
    await run(
      { ...both, PG_URL: url, PG_SHARED: "true", PG_POOL_MAX_OPEN_CONNS: "2", EXPECTED_PROCESSES: "10" },
      parallel,
      { lines }
    )
    assert.deepEqual(
      lines.filter((line) => line.startsWith("WARN")),
      []
    )
  })

  test("also of one pool alone it is one warning", async () => {
    const variables = { EVENT_STORE: "pg", PG_URL: await freshDatabase(), EVENT_STORE_POOL_MAX_OPEN_CONNS: "5000" }
    const lines: Array<string> = []
    const head = Effect.flatMap(EventStore.EventStore, (store) => store.head)
    await run(variables, head, { lines })
    const warnings = lines.filter((line) => line.startsWith("WARN"))
    assert.equal(warnings.length, 1, inspect(warnings))
    assert.match(warnings.join(), /lower EVENT_STORE_POOL_MAX_OPEN_CONNS \(5000\)/)
  })

  test("a store may have a database of its own, beside a pool that the others share", async () => {
    const [url, own] = [await freshDatabase(), await freshDatabase()]
    const variables = {
      ...storesOn("pg"),
      PG_URL: url,
      PG_SHARED: "true",
      PG_APPLICATION_NAME: "es",
      PG_POOL_MAX_OPEN_CONNS: "2",
      SNAPSHOT_STORE_PG_URL: own,
      SNAPSHOT_STORE_PG_APPLICATION_NAME: "es",
      SNAPSHOT_STORE_POOL_MAX_OPEN_CONNS: "1",
      EXPECTED_PROCESSES: "1000"
    }
    const lines: Array<string> = []
    const both = Effect.zipRight(
      used("k"),
      Effect.promise(() => Promise.all([connections(url), connections(own)]))
    )
    const exit = await run(variables, both, { lines })
    assert.ok(Exit.isSuccess(exit), failure(exit))
    const [shared = 0, alone = 0] = exit.value
    assert.ok(shared > 0 && shared <= 2, `${shared}`)
    assert.equal(alone, 1)
    assert.match(
      lines.join("\n"),
      new RegExp(`SNAPSHOT_STORE pg \\S+${new URL(own).pathname}, CACHE_STORE pg \\S+${new URL(url).pathname}`)
    )
    // Both databases are on one server.
    assert.match(
      lines.join("\n"),
      /may open 4000 connections .*PG_POOL_MAX_OPEN_CONNS \(2\), SNAPSHOT_STORE_POOL_MAX_OPEN_CONNS \(1\) times EXPECTED_PROCESSES \(1000\), beside 1 of/
    )
    const idle = await run({ ...variables, SNAPSHOT_STORE_PG_POOL_MAX_OPEN_CONNS: "1" }, used("k"))
    assert.match(failure(idle), /SNAPSHOT_STORE_PG_POOL_\*: "have no effect/)
  })

  test("a pool beyond its default is checked against the default of its own store", async () => {
    const url = await freshDatabase()
    const variables = { SNAPSHOT_STORE: "pg", PG_URL: url, SNAPSHOT_STORE_POOL_MAX_IDLE_CONNS: "20" }
    assert.match(
      failure(await run(variables, used("k"))),
      /SNAPSHOT_STORE_POOL_MAX_IDLE_CONNS: "must not exceed SNAPSHOT_STORE_POOL_MAX_OPEN_CONNS \(10\)/
    )
  })
})

describeRedis("Stores on Redis", () => {
  test("snapshots and cache, with the prefix that was asked for", async () => {
    const prefix = freshKeyPrefix()
    const variables = {
      SNAPSHOT_STORE: "redis",
      CACHE_STORE: "redis",
      REDIS_URL: redisUrl() ?? "",
      SNAPSHOT_STORE_PREFIX: `${prefix}s:`,
      CACHE_STORE_PREFIX: `${prefix}c:`,
      CACHE_STORE_POOL_POOL_SIZE: "2"
    }
    const lines: Array<string> = []
    const exit = await run(variables, used("k"), { lines })
    assert.deepEqual(exit, Exit.succeed(["InMemory", "InMemory", "Redis", "Redis", "InMemory"]))
    lines.length = 0
    await run({ ...variables, EXPECTED_PROCESSES: "100000" }, used("k"), { lines })
    assert.match(lines.join(), /WARN .*CACHE_STORE_POOL_POOL_SIZE \(2\) times EXPECTED_PROCESSES/)
  })
})

describeOwnRedis("Stores on a Redis Cluster", () => {
  test("with the connections on which the driver listens counted", async () => {
    const cluster = await startRedisCluster()
    onTestFinished(() => cluster.stop())
    const variables = {
      CACHE_STORE: "redis",
      REDIS_MODE: "Cluster",
      REDIS_NODES: cluster.nodes.map(({ port }) => `127.0.0.1:${port}`).join(","),
      EXPECTED_PROCESSES: "100000"
    }
    const lines: Array<string> = []
    const exit = await run(variables, used("k"), { lines })
    assert.deepEqual(exit, Exit.succeed(["InMemory", "InMemory", "InMemory", "Redis", "InMemory"]))
    assert.match(
      lines.join("\n"),
      /may open 4000000 connections .*CACHE_STORE_POOL_POOL_SIZE \(20\) times .*, beside 20 of each process that listen/
    )
  })
})

test("docs/configuration.md lists every variable that is read, with its default", async () => {
  const file = new URL("../docs/configuration.md", import.meta.url)
  const [before = "", found] = fs.readFileSync(file, "utf8").split("<!-- variables -->\n\n")
  const expected = `${await tables()}\n`
  if (process.env.EFFECT_STORES_WRITE_DOCS === "1") fs.writeFileSync(file, `${before}<!-- variables -->\n\n${expected}`)
  const cells = (text: string) => text.split("\n").map((line) => line.replace(/ *\| */g, "|").replace(/-{3,}/g, "---"))
  assert.deepEqual(cells(found ?? ""), cells(expected))
})
