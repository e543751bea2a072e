/**
 * Cleaning up after a test process however it ends, SIGKILL included: a guard is a shell that waits for the pipe to
 * its parent to close, then ends the process it was told to watch and runs the clean-up command.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

export interface Guard {
  /** The process to end first, by the guard's signal; undefined when there is none any more. */
  readonly watch: (pid: number | undefined) => void
  /** Lets the guard do its work now; resolves when it is done. */
  readonly release: () => Promise<void>
}

const script = `
trap '' HUP INT TERM
signal=$1
shift
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
  kill "-$signal" "$pid" 2>/dev/null
  n=0
  while kill -0 "$pid" 2>/dev/null && [ $n -lt 200 ]; do sleep 0.05; n=$((n + 1)); done
  kill -KILL "$pid" 2>/dev/null
fi
n=0
until "$@" || [ $n -eq 20 ]; do sleep 0.1; n=$((n + 1)); done
`

/**
 * Starts a guard with its clean-up command, which is repeated for some seconds while it fails. The watched process is
 * ended by `signal`, and by SIGKILL when it runs ten seconds later.
 */
export const startGuard = (cleanUp: ReadonlyArray<string>, signal: "QUIT" | "KILL" = "QUIT"): Guard => {
  const shell = spawn("sh", ["-c", script, "sh", signal, ...cleanUp], {
    // its own session: a Ctrl-C at the terminal must not end the one that cleans up
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  const gone = once(shell, "exit")
  shell.stdin.on("error", () => {})
  shell.unref()
  return {
    watch: (pid) => {
      shell.stdin.write(`${pid ?? ""}\n`)
    },
    release: async () => {
      shell.ref()
      shell.stdin.end()
      await gone
    }
  }
}

/** A new directory, by default under the system's directory for temporary files, that is removed with its guard. */
export const guardedDirectory = (
  prefix: string,
  signal?: "QUIT" | "KILL",
  under = os.tmpdir()
): { readonly directory: string; readonly guard: Guard } => {
  const directory = fs.mkdtempSync(path.join(under, prefix))
  return { directory, guard: startGuard(["rm", "-rf", directory], signal) }
}
