/**
 * The bench of the DataStore: put and get of 4 KiB, 1 MiB and 256 MiB beside the bare driver. `--only` takes the
 * workloads whose name has the text; `--quick` is for a look, for moments; `--brief`, too, is without the largest; `--docs`
 * writes the table of each backend that was measured into docs/.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { Effect, type Layer, ManagedRuntime, Option, Redacted, Stream } from "effect"
import { DataStore } from "effect-stores"
import { DataStoreFileSystem } from "effect-stores/fs"
import { DataStoreMinio } from "effect-stores/minio"
import { DataStorePg } from "effect-stores/pg"
import { DataStoreSqlite } from "effect-stores/sqlite"
import { startCeph } from "../../test/support/s3.js"
import * as docs from "../docs.js"
import { type Budget, budgetOf, effectSide, measure, promiseSide, type Result, type Workload } from "../harness.js"
import * as report from "../report.js"
import { postgres } from "../servers.js"
import { type Raw, rawFs, rawMinio, rawPg, rawSqlite } from "./raw.js"

export const usage =
  "data-store [--backend fs,sqlite,pg,minio] [--only TEXT] [--quick | --brief] [--docs] [--json FILE]"

interface Opened {
  readonly layer: Layer.Layer<DataStore.DataStore, unknown>
  readonly raw: Raw
  readonly close: () => Promise<void>
}

interface Backend {
  readonly title: string
  readonly open: (directory: string) => Promise<Opened>
}

const backends: Readonly<Record<string, Backend>> = {
  fs: {
    title: "FileSystem",
    open: async (directory) => ({
      layer: DataStoreFileSystem.layer({ root: join(directory, "ours") }),
      raw: await rawFs(join(directory, "raw")),
      close: async () => {}
    })
  },
  sqlite: {
    title: "Sqlite",
    open: async (directory) => ({
      layer: DataStoreSqlite.layer({ filename: join(directory, "ours.db") }),
      raw: await rawSqlite(join(directory, "raw.db")),
      close: async () => {}
    })
  },
  pg: {
    title: "Pg",
    open: async () => {
      const server = await postgres()
      return {
        layer: DataStorePg.layer({ url: Redacted.make(server.url) }),
        raw: await rawPg(server.url),
        close: server.stop
      }
    }
  },
  minio: {
    title: "Minio",
    open: async () => {
      const server = await startCeph()
      const { accessKey, endpoint, secretKey } = server
      return {
        layer: DataStoreMinio.layer({ endpoint, accessKey, secretKey: Redacted.make(secretKey) }),
        raw: await rawMinio(server),
        close: server.stop
      }
    }
  }
}

const options = {
  backend: { type: "string", default: "fs,sqlite,pg,minio" },
  only: { type: "string", default: "" },
  quick: { type: "boolean", default: false },
  brief: { type: "boolean", default: false },
  docs: { type: "boolean", default: false },
  json: { type: "string", default: ".bench/data-store.json" }
} as const

const bucket = "bench"
const piece = 256 * 1024

const sizes = [
  { title: "4 KiB", bytes: 4 * 1024, bar: 0.8, budget: { rounds: 9, turnMs: 300, warmUpMs: 500 } },
  { title: "1 MiB", bytes: 2 ** 20, bar: 0.9, budget: { rounds: 9, turnMs: 500, warmUpMs: 500 } },
  { title: "256 MiB", bytes: 256 * 2 ** 20, bar: 0.9, budget: { rounds: 3, turnMs: 1, warmUpMs: 1 } }
] as const

const workloads = (
  runtime: ManagedRuntime.ManagedRuntime<DataStore.DataStore, unknown>,
  raw: Raw
): ReadonlyArray<{ readonly workload: Workload; readonly budget: Budget }> =>
  sizes.flatMap(({ bar, budget, bytes, title }) => {
    const pieces = Array.from({ length: Math.ceil(bytes / piece) }, (_, i) =>
      Buffer.alloc(Math.min(piece, bytes - i * piece), i)
    )
    const id = { bucket, name: `object-${bytes}` }
    const put = Effect.flatMap(DataStore.DataStore, (store) =>
      store.put(
        id,
        pieces.length === 1 ? (pieces[0] ?? Buffer.alloc(0)) : Stream.rechunk(Stream.fromIterable(pieces), 1)
      )
    )
    const get = Effect.flatMap(DataStore.DataStore, (store) =>
      Effect.flatMap(store.get(id), (found) =>
        Stream.runFold(Option.getOrThrow(found).body, 0, (sum, bytes) => sum + bytes.byteLength)
      )
    )
    const common = { concurrency: 1, events: bytes, bars: { [raw.name]: bar } }
    const prepare = async () => {
      await runtime.runPromise(put)
      await raw.put(id.name, pieces)
    }
    return [
      {
        budget,
        workload: {
          ...common,
          name: `put of ${title}`,
          prepare: async () => {},
          ours: effectSide("effect-stores", runtime, false, () => put),
          raw: [promiseSide(raw.name, () => raw.put(id.name, pieces))]
        }
      },
      {
        budget,
        workload: {
          ...common,
          name: `get of ${title}`,
          prepare,
          ours: effectSide("effect-stores", runtime, false, () => get),
          raw: [promiseSide(raw.name, () => raw.get(id.name))]
        }
      }
    ]
  })

/** Throws at once for arguments that it does not know. */
export const prepare = (args: ReadonlyArray<string>): (() => Promise<void>) => {
  const { values } = parseArgs({ args: [...args], options })
  const chosen = values.backend.split(",").map((name) => {
    const named = backends[name]
    if (named === undefined) throw new Error(`no backend ${name}`)
    return named
  })
  return async () => {
    const isShort = values.quick || values.brief
    const loadBefore = await report.othersLoad()
    const facts: Record<string, string> = {}
    const results: Array<Result & { readonly backend: string }> = []
    for (const { open, title } of chosen) {
      const directory = mkdtempSync(join(tmpdir(), "es-bench-"))
      const { close, layer, raw } = await open(directory)
      const runtime = ManagedRuntime.make(layer)
      try {
        await runtime.runPromise(Effect.flatMap(DataStore.DataStore, (store) => store.buckets.create(bucket)))
        const measured: Array<Result> = []
        report.heading(title)
        Object.assign(facts, raw.facts)
        for (const { budget, workload } of workloads(runtime, raw)) {
          if (!workload.name.includes(values.only) || (isShort && workload.name.includes("256"))) continue
          const result = await measure(workload, isShort ? budgetOf(values) : budget)
          report.print(result)
          measured.push(result)
        }
        results.push(...measured.map((result) => ({ backend: title, ...result })))
        if (values.docs && measured.length > 0) {
          const text = docs.table(measured, "MiB/s", ({ events }) => events / 2 ** 20)
          docs.replace(`data-store ${title}`, `${text}\n\n${docs.environment(raw.facts, loadBefore)}`)
        }
      } finally {
        await runtime.dispose()
        await raw.close()
        await close()
        rmSync(directory, { recursive: true, force: true })
      }
    }
    report.summary(results)
    report.write(values.json, "data-store", results, { facts, loadBefore })
  }
}
