/**
 * Where the applications of the tests of forgetting have their stores, their keys of subjects and their ledger.
 */
import { randomUUID } from "node:crypto"
import * as path from "node:path"
import { Effect, Layer, Redacted } from "effect"
import { Subjects } from "effect-stores"
import { SubjectKeysMemory } from "effect-stores/memory"
import { DataStoreMinio } from "effect-stores/minio"
import { SubjectKeysPg } from "effect-stores/pg"
import { SubjectKeysSqlite } from "effect-stores/sqlite"
import { freshDatabase, freshKeyPrefix, redisUrl, temporaryDirectory } from "../support/backends.js"
import type { S3Server } from "../support/s3.js"
import { type Place, sharedKeys } from "./subjects.js"
import { memoryPorts, onPg, onPorts, onRedisAndFiles, onSqlite } from "./worlds.js"

export const ledgerFile = (): string => path.join(temporaryDirectory(), "forgotten.jsonl")

export const inMemory = async (): Promise<Place> => ({
  stores: onPorts(await Effect.runPromise(memoryPorts)),
  keys: sharedKeys(await Effect.runPromise(SubjectKeysMemory.makeEncoded)),
  ledger: Subjects.layerLedgerFile(ledgerFile())
})

export const inFiles = async (): Promise<
  Place & { readonly keysFile: string; readonly storesFile: string; readonly ledgerFile: string }
> => {
  const directory = temporaryDirectory()
  const keysFile = path.join(directory, "subjects.db")
  const storesFile = path.join(directory, "stores.db")
  const ledgerFile = path.join(directory, "forgotten.jsonl")
  return {
    stores: onSqlite(storesFile),
    keys: SubjectKeysSqlite.layer({ filename: keysFile }),
    ledger: Subjects.layerLedgerFile(ledgerFile),
    keysFile,
    storesFile,
    ledgerFile
  }
}

/** Snapshots and the cache in Redis, objects in files. */
export const inRedisAndFiles = async (): Promise<Place> => {
  const directory = temporaryDirectory()
  return {
    stores: onRedisAndFiles(redisUrl() ?? "", freshKeyPrefix(), directory),
    keys: SubjectKeysSqlite.layer({ filename: path.join(directory, "subjects.db") }),
    ledger: Subjects.layerLedgerFile(path.join(directory, "forgotten.jsonl"))
  }
}

/** Objects on an S3 server, everything else in files. */
export const onS3 =
  ({ accessKey, endpoint, secretKey }: S3Server) =>
  async (): Promise<Place> => {
    const { stores, ...place } = await inFiles()
    const objects = DataStoreMinio.layer({
      endpoint,
      accessKey,
      secretKey: Redacted.make(secretKey),
      bucketPrefix: `f${randomUUID().slice(0, 8)}-`
    })
    return { ...place, stores: Layer.merge(stores, objects) }
  }

export const onServer = async (): Promise<Place & { readonly url: string }> => {
  const url = await freshDatabase()
  return {
    stores: onPg(url),
    keys: SubjectKeysPg.layer({ url: Redacted.make(url) }),
    ledger: Subjects.layerLedgerFile(ledgerFile()),
    url
  }
}
