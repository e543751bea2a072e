/**
 * Other libraries to measure beside, which are installed only for this: `npm run bench:install` puts them into
 * bench/peers/node_modules. What a bench calls of them it describes itself, so that the types need none of them.
 */
import { existsSync } from "node:fs"
import { versionOf } from "./environment.js"
import { load as loadThere } from "./peers/load.js"

const directory = "bench/peers"

/** Says once what is left out where they are not. */
export const areInstalled = (() => {
  let known: boolean | undefined
  return (): boolean => {
    if (known === undefined) {
      known = existsSync(`${directory}/node_modules`)
      if (!known) console.log("Other libraries are left out: npm run bench:install installs them.")
    }
    return known
  }
})()

/** The exports of a module of theirs, of whichever kind. */
export const load = async <A>(specifier: string): Promise<A> => {
  const module = (await loadThere(specifier)) as { readonly default?: A } & A
  return typeof module.default === "object" ? { ...module.default, ...module } : module
}

export const versionsOf = (...names: ReadonlyArray<string>): Readonly<Record<string, string>> =>
  Object.fromEntries(names.map((name) => [name, versionOf(name, directory)]))
