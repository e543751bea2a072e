/**
 * What the DataStore is held against: the same work by hand, without checksums, without metadata and without Streams.
 */
import { execFileSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import Database from "better-sqlite3"
import { Client as Minio } from "minio"
import { Client as Pg } from "pg"
import type { S3Server } from "../../test/support/s3.js"
import { pgFacts, sqliteFacts } from "../drivers.js"

export interface Raw {
  readonly name: string
  /** Versions and settings that the figures depend on. */
  readonly facts: Readonly<Record<string, string>>
  readonly put: (name: string, pieces: ReadonlyArray<Uint8Array>) => Promise<unknown>
  readonly get: (name: string) => Promise<number>
  readonly close: () => Promise<void>
}

/** The same calls of the system: a file of its own, synced, renamed, and the folder synced. */
export const rawFs = async (root: string): Promise<Raw> => {
  await fs.mkdir(root, { recursive: true })
  return {
    name: "node:fs",
    facts: {},
    put: async (name, pieces) => {
      const temporary = path.join(root, randomUUID())
      const file = await fs.open(temporary, "wx")
      for (const piece of pieces) await file.write(piece)
      await file.sync()
      await file.close()
      await fs.rename(temporary, path.join(root, name))
      const folder = await fs.open(root)
      await folder.sync()
      await folder.close()
    },
    get: async (name) => {
      const file = await fs.open(path.join(root, name))
      const { size } = await file.stat()
      const bytes = Buffer.allocUnsafeSlow(Math.min(size, 2 ** 20))
      let sum = 0
      while (sum < size) sum += (await file.read(bytes, 0, bytes.byteLength, sum)).bytesRead
      await file.close()
      return sum
    },
    close: async () => {}
  }
}

export const rawSqlite = async (filename: string): Promise<Raw> => {
  const db = new Database(filename)
  db.pragma("journal_mode = WAL")
  db.pragma("synchronous = FULL")
  db.exec("CREATE TABLE rows (name TEXT, n INTEGER, bytes BLOB, PRIMARY KEY (name, n)) STRICT")
  const remove = db.prepare("DELETE FROM rows WHERE name = ?")
  const insert = db.prepare("INSERT INTO rows VALUES (?, ?, ?)")
  const select = db.prepare<[string], Buffer>("SELECT bytes FROM rows WHERE name = ? ORDER BY n").pluck()
  const put = db.transaction((name: string, pieces: ReadonlyArray<Uint8Array>) => {
    remove.run(name)
    for (const [n, piece] of pieces.entries()) insert.run(name, n, piece)
  })
  return {
    name: "better-sqlite3",
    facts: sqliteFacts("FULL"),
    put: async (name, pieces) => put.immediate(name, pieces),
    get: async (name) => {
      let sum = 0
      for (const bytes of select.iterate(name)) sum += bytes.byteLength
      return sum
    },
    close: async () => {
      db.close()
    }
  }
}

export const rawPg = async (connectionString: string): Promise<Raw> => {
  const client = new Pg({ connectionString })
  await client.connect()
  await client.query("create table raw_rows (name text, n int, bytes bytea, primary key (name, n))")
  await client.query("alter table raw_rows alter column bytes set storage external")
  const insert = { name: "raw_insert", text: "insert into raw_rows values ($1, $2, $3)" }
  const select = {
    name: "raw_select",
    text: "select bytes from raw_rows where name = $1 and n >= $2 and n < $3 order by n"
  }
  return {
    name: "pg",
    facts: await pgFacts(connectionString),
    put: async (name, pieces) => {
      await client.query("begin")
      await client.query("delete from raw_rows where name = $1", [name])
      for (const [n, piece] of pieces.entries()) {
        await client.query({
          ...insert,
          values: [name, n, Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)]
        })
      }
      await client.query("commit")
    },
    get: async (name) => {
      let sum = 0
      for (let n = 0; ; n += 4) {
        const { rows } = await client.query<{ bytes: Buffer }>({ ...select, values: [name, n, n + 4] })
        for (const { bytes } of rows) sum += bytes.byteLength
        if (rows.length < 4) return sum
      }
    },
    close: () => client.end()
  }
}

export const rawMinio = async ({ accessKey, endpoint, secretKey }: S3Server): Promise<Raw> => {
  const { hostname, port } = new URL(endpoint)
  const client = new Minio({
    endPoint: hostname,
    port: Number(port),
    useSSL: false,
    accessKey,
    secretKey,
    region: "us-east-1"
  })
  await client.makeBucket("raw-bench")
  return {
    name: "minio-js",
    facts: { "Ceph's gateway": execFileSync("radosgw", ["--version"]).toString().split(" ")[2] ?? "?" },
    put: (name, pieces) => client.putObject("raw-bench", name, Buffer.concat(pieces)),
    get: async (name) => {
      let sum = 0
      for await (const bytes of await client.getObject("raw-bench", name)) sum += (bytes as Buffer).byteLength
      return sum
    },
    close: async () => {}
  }
}
