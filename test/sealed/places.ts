/**
 * Where the applications of the tests of forgetting have their stores, their keys of subjects and their ledger.
 */
import * as path from "node:path"
import { Effect, Redacted } from "effect"
import { Subjects } from "effect-stores"
import { SubjectKeysMemory } from "effect-stores/memory"
import { SubjectKeysPg } from "effect-stores/pg"
import { SubjectKeysSqlite } from "effect-stores/sqlite"
import { freshDatabase, temporaryDirectory } from "../support/backends.js"
import { type Place, sharedKeys } from "./subjects.js"
import { memoryPorts, onPg, onPorts, onSqlite } from "./worlds.js"

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

export const onServer = async (): Promise<Place & { readonly url: string }> => {
  const url = await freshDatabase()
  return {
    stores: onPg(url),
    keys: SubjectKeysPg.layer({ url: Redacted.make(url) }),
    ledger: Subjects.layerLedgerFile(ledgerFile()),
    url
  }
}
