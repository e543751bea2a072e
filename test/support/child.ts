/**
 * TypeScript files run as processes of their own: to be raced, killed and traced.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { startGuard } from "./guard.js"

export interface WorkerOptions {
  readonly args?: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  /** A program and its arguments to run the worker under, such as `strace`. */
  readonly under?: ReadonlyArray<string>
  /** Run the sources, file by file. */
  readonly unbundled?: boolean
}

export interface WorkerExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderr: string
}

export interface Worker {
  readonly process: ChildProcess
  /** Its standard output, line by line. */
  readonly lines: AsyncIterable<string>
  readonly kill: (signal?: NodeJS.Signals) => void
  readonly exited: Promise<WorkerExit>
}

const fileOf = (file: URL | string): string => (file instanceof URL ? fileURLToPath(file) : file)

/** The programs, of one directory, as plain JavaScript that is made once per run (see bundle.mjs). */
export const bundledAll = (programs: ReadonlyArray<URL | string>): ReadonlyArray<string> => {
  const files = programs.map(fileOf)
  const name = createHash("sha256").update(files.join("\n")).digest("hex").slice(0, 16)
  const directory = path.join(inject("temporaryDirectory"), `bundle-${name}`)
  if (!fs.existsSync(directory)) {
    const making = fs.mkdtempSync(`${directory}-`)
    execFileSync(process.execPath, [fileURLToPath(new URL("bundle.mjs", import.meta.url)), making, ...files])
    try {
      fs.renameSync(making, directory)
    } catch (error) {
      // Another test file was faster.
      if (!fs.existsSync(directory)) throw error
    }
  }
  return files.map((file) => path.join(directory, `${path.basename(file, ".ts")}.mjs`))
}

export const bundled = (program: URL | string): string => bundledAll([program])[0] as string

/** What Node is given to run a TypeScript file of the sources. */
export const fromSources = (file: string): ReadonlyArray<string> => ["--conditions=source", "--import", "tsx", file]

export const spawnWorker = (file: URL | string, options: WorkerOptions = {}): Worker => {
  const run = options.unbundled === true ? fromSources(fileOf(file)) : [bundled(file)]
  const node = [process.execPath, ...run, ...(options.args ?? [])]
  const [program, ...args] = [...(options.under ?? []), ...node] as [string, ...Array<string>]
  const child = spawn(program, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env }
  })
  // a test process that is killed must not leave its workers running
  const guard = startGuard(["true"])
  guard.watch(child.pid)
  let stderr = ""
  child.stderr.on("data", (chunk) => {
    stderr += chunk
  })
  const exited = new Promise<WorkerExit>((resolve, reject) => {
    child.once("error", (error) => {
      void guard.release()
      reject(error)
    })
    child.once("close", (code, signal) => {
      guard.watch(undefined)
      void guard.release()
      resolve({ code, signal, stderr })
    })
  })
  return {
    process: child,
    lines: createInterface({ input: child.stdout }),
    kill: (signal = "SIGKILL") => child.kill(signal),
    exited
  }
}
