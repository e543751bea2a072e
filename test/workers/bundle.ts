/**
 * Makes plain JavaScript of the workers, once per test file: a worker that is started fifty times starts in tenths of a
 * second then, where compiling the library each time takes seconds. The drivers stay outside, as a user has them.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const here = fileURLToPath(new URL(".", import.meta.url))
const root = path.resolve(here, "../..")

/** Bundles `<name>.ts` of this directory into `directory` and returns the file to run. */
export const bundleWorker = async (name: string, directory: string): Promise<string> => {
  await build({
    entryPoints: [path.join(here, `${name}.ts`)],
    absWorkingDir: root,
    outdir: directory,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    conditions: ["source"],
    external: ["better-sqlite3", "pg", "ioredis"],
    // CommonJS packages inside an ES module still call require.
    banner: { js: 'import { createRequire } from "node:module"\nconst require = createRequire(import.meta.url)' },
    logLevel: "silent"
  })
  const modules = path.join(directory, "node_modules")
  if (!fs.existsSync(modules)) fs.symlinkSync(path.join(root, "node_modules"), modules, "dir")
  return path.join(directory, `${name}.mjs`)
}
