/**
 * The layers of a store on SQLite, made from what is the store's own.
 */
import type { MigrateOptions } from "../../sql/storeLayers.js"
import * as storeLayers from "../../sql/storeLayers.js"
import * as SqliteDatabase from "../SqliteDatabase.js"
import { storeAccess } from "./access.js"
import * as migrations from "./migrations.js"
import { checkedNames, type NameOptions } from "./names.js"
import { databaseKeys } from "./options.js"

export interface PreparationOptions extends NameOptions, MigrateOptions {}

export const make = storeLayers.on({
  ...migrations,
  suffix: "Sqlite",
  tag: SqliteDatabase.SqliteDatabase,
  access: (database) => database[storeAccess],
  databaseKeys,
  open: SqliteDatabase.make,
  namingKeys: { prefix: true },
  names: checkedNames
})
