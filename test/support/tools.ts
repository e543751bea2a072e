/**
 * Programs of the machine, beside servers, that some tests need: how to find out whether they are there, and what is
 * not tested without them.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { findPgBouncer } from "./pgbouncer.js"
import { findPostgresBinaries } from "./postgres.js"
import { wantedMajor, wantedPostgres } from "./postgres-versions.js"
import { outputOf } from "./processes.js"
import { s3ProgramsMissing } from "./s3.js"

/**
 * One of PostgreSQL's programs beside the server's: where the server's are, or where the client's are. Where the run is
 * to use a certain version of the server, one that is older does not do.
 */
export const findPostgresTool = (name: string): string | undefined => {
  const binaries = findPostgresBinaries()
  const beside =
    binaries === undefined ? [] : [binaries, path.dirname(fs.realpathSync(path.join(binaries, "postgres")))]
  const major = wantedMajor()
  return [...beside, ...(process.env.PATH ?? "").split(path.delimiter)]
    .map((directory) => path.join(directory, name))
    .find((file) => fs.existsSync(file) && (major === undefined || majorOf(file) >= major))
}

/** "pg_dump (PostgreSQL) 15.18 (Debian …)" */
const majorOf = (program: string): number => Number(outputOf(program, ["--version"])?.match(/\) (\d+)/)?.[1])

const postgresTools = ["psql", "pg_dump", "pg_restore", "pg_basebackup"]

/** By the name under which tests ask for them. */
export const tools = {
  strace: {
    title: "what reaches the disk when (strace)",
    missing: () =>
      outputOf("strace", ["-f", "-o", "/dev/null", "true"]) === undefined
        ? "strace is missing or not permitted"
        : undefined,
    remedy: "install strace (Debian: apt-get install strace), and let the process trace its children"
  },
  git: {
    title: "the demo on repositories (git)",
    missing: () => (outputOf("git", ["--version"]) === undefined ? "git is missing" : undefined),
    remedy: "install git (Debian: apt-get install git)"
  },
  curl: {
    title: "the commands of examples/orders/README.md (curl)",
    missing: () => (outputOf("curl", ["--version"]) === undefined ? "curl is missing" : undefined),
    remedy: "install curl (Debian: apt-get install curl)"
  },
  openssl: {
    title: "encrypted connections (openssl)",
    missing: () => (outputOf("openssl", ["version"]) === undefined ? "openssl is missing" : undefined),
    remedy: "install OpenSSL's program (Debian: apt-get install openssl)"
  },
  ceph: {
    title: "the DataStore on Ceph's S3 gateway",
    missing: () => s3ProgramsMissing("ceph"),
    remedy: "install Ceph (Debian: apt-get install --no-install-recommends radosgw ceph-mon ceph-osd)"
  },
  swift: {
    title: "the DataStore on Swift's S3 API",
    missing: () => s3ProgramsMissing("swift"),
    remedy:
      "install Swift (Debian: apt-get install --no-install-recommends swift-proxy swift-account swift-container swift-object memcached)"
  },
  pgbouncer: {
    title: "PostgreSQL through a pooler in transaction mode (PgBouncer)",
    missing: () => (findPgBouncer() === undefined ? "no pgbouncer on this machine" : undefined),
    remedy: "install PgBouncer (Debian: apt-get install pgbouncer)"
  },
  postgresTools: {
    title: "PostgreSQL dumped, restored and replicated",
    missing: () => {
      const missing = postgresTools.filter((name) => findPostgresTool(name) === undefined)
      return missing.length === 0 ? undefined : `no ${missing.join(", ")} for ${wantedPostgres()} on this machine`
    },
    remedy: `install PostgreSQL's client programs (Debian: apt-get install postgresql-client)`
  }
}

/** Name of a program, or set of programs, that tests need. */
export type ToolName = keyof typeof tools
