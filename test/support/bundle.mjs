/**
 * `node bundle.mjs DIRECTORY PROGRAM.ts...`: makes plain JavaScript of programs and all that they import. What is started
 * many times starts in tenths of a second then, where compiling the library takes seconds of a processor each time. The
 * drivers stay outside, as a user has them.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { build } from "esbuild"

const root = fileURLToPath(new URL("../..", import.meta.url))
const [directory = "", ...programs] = process.argv.slice(2)

/** Modules find the files beside them where they were written. */
const places = {
  name: "places",
  setup: ({ onLoad }) => {
    onLoad({ filter: /\.ts$/ }, async ({ path: file }) => {
      const text = await fs.promises.readFile(file, "utf8")
      if (file.includes("node_modules") || !text.includes("import.meta.url")) return undefined
      return { contents: text.replaceAll("import.meta.url", JSON.stringify(pathToFileURL(file).href)), loader: "ts" }
    })
  }
}

await build({
  entryPoints: programs,
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
  plugins: [places],
  logLevel: "error"
})
fs.symlinkSync(path.join(root, "node_modules"), path.join(directory, "node_modules"), "dir")
