/**
 * The layers of a store on SQLite, made from what is the store's own.
 */
import type { MigrateOptions } from "../../sql/storeLayers.js"
import * as storeLayers from "../../sql/storeLayers.js"
import * as SqliteDatabase from "../SqliteDatabase.js"
import * as migrations from "./migrations.js"
import { checkedNames, type NameOptions } from "./names.js"
import { databaseKeys } from "./options.js"
import type { StoreAccess } from "./storeAccess.js"

export interface PreparationOptions extends NameOptions, MigrateOptions {}

const access = (database: SqliteDatabase.SqliteDatabaseShape): StoreAccess => ({
  ...database,
  connection: database.filename
})

export const make = storeLayers.on({
  ...migrations,
  suffix: "Sqlite",
  tag: SqliteDatabase.SqliteDatabase,
  access,
  databaseKeys,
  open: SqliteDatabase.make,
  namingKeys: { prefix: true },
  names: checkedNames
})
