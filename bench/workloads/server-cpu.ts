/**
 * The CPU time of a server on this machine, on Linux.
 */
import { readdirSync, readFileSync } from "node:fs"

/** Of a process, in ticks, from /proc: its name may have spaces and parentheses. */
const statOf = (pid: number | string) => {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8")
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ")
  const [parent = 0, user = 0, system = 0, endedUser = 0, endedSystem = 0] = [1, 11, 12, 13, 14].map((i) =>
    Number(fields[i])
  )
  return { parent, own: user + system, ofEndedChildren: endedUser + endedSystem }
}

/** What Linux counts in on all machines that Node runs on. */
const ticksPerSecond = 100

/** Of a process and its children, those that have ended too; `null` where there is no such process here. */
export const cpuSecondsOf = (pid: number): number | null => {
  try {
    const { ofEndedChildren, own } = statOf(pid)
    let ticks = own + ofEndedChildren
    for (const name of readdirSync("/proc")) {
      if (!/^\d+$/.test(name)) continue
      try {
        const child = statOf(name)
        if (child.parent === pid) ticks += child.own + child.ofEndedChildren
      } catch {
        // It has ended since the folder was read.
      }
    }
    return ticks / ticksPerSecond
  } catch {
    return null
  }
}
