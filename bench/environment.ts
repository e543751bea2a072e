/**
 * What figures depend on, for the JSON of every bench: the machine, the commit, the versions. What only a backend knows,
 * such as the version of its server and whether it waits for the disk, it tells as `facts`.
 */
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { cpus, release, totalmem } from "node:os"
import { join } from "node:path"

const packages = ["effect", "@effect/sql", "@effect/sql-pg", "better-sqlite3", "pg", "ioredis", "minio"]

/** Of a package in a directory where npm has installed it. */
export const versionOf = (name: string, directory = "."): string =>
  JSON.parse(readFileSync(join(directory, "node_modules", name, "package.json"), "utf8")).version

/** With `+` where files differ from it; `null` where this is no clone. */
const commit = (): string | null => {
  const git = (...args: ReadonlyArray<string>) =>
    execFileSync("git", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim()
  try {
    return git("rev-parse", "HEAD") + (git("status", "--porcelain", "--", "src", "bench") === "" ? "" : "+")
  } catch {
    return null
  }
}

export const environment = () => ({
  commit: commit(),
  machine: {
    platform: `${process.platform} ${release()}`,
    arch: process.arch,
    cpus: cpus().length,
    model: cpus()[0]?.model ?? null,
    memoryGiB: Math.round(totalmem() / 2 ** 30)
  },
  versions: { node: process.versions.node, ...Object.fromEntries(packages.map((name) => [name, versionOf(name)])) }
})
