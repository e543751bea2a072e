/**
 * Paths in options: resolved once, when a layer opens. Text that other programs take for something other than a path
 * would become a file or a folder of that name, so it is refused.
 */
import * as path from "node:path"
import { refuse } from "./validate.js"

/** The absolute path. Throws `InvalidInput`. */
export const located = (value: unknown, what: string): string => {
  const refused = (why: string) => refuse(what, why)
  if (typeof value !== "string") return refused(`must be a string, not ${typeof value}`)
  if (value === "") return refused("must not be empty")
  if (value.includes("\0")) return refused("must not contain NUL")
  if (!value.isWellFormed()) return refused("must not contain a lone surrogate")
  if (value.startsWith("~")) {
    return refused('must be a path: ~ is for shells; write path.join(os.homedir(), …), or "./~…" for a file')
  }
  if (/^(\$|%\w+%)/.test(value)) {
    return refused('must be a path: variables are for shells; write path.join(process.env.…, …), or "./$…" for a file')
  }
  if (/^[a-z][a-z\d+.-]*:/i.test(value) && !isDrive(value)) {
    return refused('must be a path, not a URI: write "data/events" or "/data/events", or "./a:b" for a file')
  }
  try {
    return path.resolve(value)
  } catch {
    return refused("cannot be resolved: the working directory is gone; write an absolute path")
  }
}

const isDrive = (value: string): boolean => process.platform === "win32" && /^[a-z]:/i.test(value)
