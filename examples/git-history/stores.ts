/**
 * The stores of the demo: events and snapshots in one file of Sqlite, plain or sealed.
 */
import { randomBytes } from "node:crypto"
import { existsSync, writeFileSync } from "node:fs"
import { Data, Effect, Layer } from "effect"
import { CryptoService } from "effect-stores"
import { EventStoreSqlite, SnapshotStoreSqlite } from "effect-stores/sqlite"

/** Why a file cannot be made. */
export class FileError extends Data.TaggedError("FileError")<{ readonly message: string }> {}

export const stores = (filename: string) =>
  Layer.provideMerge(
    SnapshotStoreSqlite.layerFromDatabase(),
    EventStoreSqlite.layer({
      filename,
      // A power failure may take the last commits with it, as a whole; the next run imports them again.
      synchronous: "NORMAL"
    })
  )

/** The same stores, sealed: nothing else of the demo knows. */
export const sealedStores = (filename: string) =>
  Layer.unwrapEffect(
    Effect.map(keyFile(filename), (file) =>
      stores(filename).pipe(CryptoService.seal, Layer.provide(CryptoService.layerFile(file)))
    )
  )

/**
 * The key file, made when there is none. Here it lies beside the database, so that the demo can be run again; whoever
 * takes the one then has the other, so an application keeps it elsewhere.
 */
const keyFile = (filename: string) =>
  Effect.try({
    try: () => {
      const file = `${filename}.keys.json`
      const keys = { primary: "demo", keys: [{ id: "demo", key: randomBytes(32).toString("hex") }] }
      if (!existsSync(file)) writeFileSync(file, JSON.stringify(keys), { mode: 0o600, flag: "wx" })
      return file
    },
    catch: (error) => new FileError({ message: `the key file of ${filename} cannot be created: ${error}` })
  })
