/**
 * The layers of a store on PostgreSQL, made from what is the store's own.
 */
import type { MigrateOptions } from "../../sql/storeLayers.js"
import * as storeLayers from "../../sql/storeLayers.js"
import * as PgDatabase from "../PgDatabase.js"
import { storeAccess } from "./access.js"
import { checkedNames, type NameOptions } from "./names.js"
import { databaseKeys } from "./options.js"
import * as migrations from "./schema/migrations.js"

export interface PreparationOptions extends NameOptions, MigrateOptions {}

export const make = storeLayers.on({
  ...migrations,
  suffix: "Pg",
  tag: PgDatabase.PgDatabase,
  access: (database) => database[storeAccess],
  databaseKeys,
  open: PgDatabase.make,
  namingKeys: { schema: true, prefix: true },
  names: checkedNames
})
