/**
 * One statement on a database, on a connection of its own: how tests look at the server beside the store.
 */
import { Effect } from "effect"
import { withClient } from "../../support/databases.js"

export const query = (url: string, text: string, values: ReadonlyArray<unknown> = []) =>
  Effect.promise(() => withClient(url, (client) => client.query(text, [...values])))
