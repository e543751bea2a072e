/**
 * TypeScript files run as processes of their own: to be raced, killed and traced.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { startGuard } from "./guard.js"

export interface WorkerOptions {
  readonly args?: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  /** A program and its arguments to run the worker under, such as `strace`. */
  readonly under?: ReadonlyArray<string>
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

export const spawnWorker = (file: URL | string, options: WorkerOptions = {}): Worker => {
  const path = file instanceof URL ? fileURLToPath(file) : file
  // TypeScript is compiled as it is loaded; what was bundled before needs no compiler, which saves half a second.
  const loader = path.endsWith(".ts") ? ["--conditions=source", "--import", "tsx"] : []
  const node = [process.execPath, ...loader, path, ...(options.args ?? [])]
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
