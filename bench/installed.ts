/**
 * Other libraries to measure beside, which are installed only for this: `npm run bench:install` puts them into
 * bench/peers/node_modules. What a bench calls of them it describes itself, so that the types need none of them.
 */
import { existsSync } from "node:fs"
import { createRequire } from "node:module"
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"
import { versionOf } from "./environment.js"

const directory = resolve("bench/peers")
const { resolve: resolved } = createRequire(`${directory}/package.json`)

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
  const module = (await import(pathToFileURL(resolved(specifier)).href)) as { readonly default?: A } & A
  return "default" in module && typeof module.default === "object" ? { ...module.default, ...module } : module
}

export const versionsOf = (...names: ReadonlyArray<string>): Readonly<Record<string, string>> =>
  Object.fromEntries(names.map((name) => [name, versionOf(name, directory)]))
