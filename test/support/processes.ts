/**
 * Child processes and programs of this machine, as the files that start servers need them.
 */
import { type ChildProcess, spawnSync } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import * as path from "node:path"

/** Ends a child by `act` and resolves when it is gone; at once when it is gone already. */
export const exitAfter = async (child: ChildProcess, act: () => void): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, "exit")
  child.ref()
  act()
  await gone
}

/** Whether a directory has an executable of that name. */
export const isExecutable = (directory: string, name: string): boolean => {
  try {
    fs.accessSync(path.join(directory, name), fs.constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** What a program prints, or undefined when it cannot be run or fails. */
export const outputOf = (program: string, args: ReadonlyArray<string>): string | undefined => {
  const { status, stdout } = spawnSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
  return status === 0 ? stdout.trim() : undefined
}
