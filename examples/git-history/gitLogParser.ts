/**
 * The parser of what `git log -z --raw --numstat` prints: bytes in, commits out. It runs nothing, and holds one commit.
 *
 * With `-z` every item ends in a NUL and no path is quoted. A commit is three items (`hash parents`, author, time), then
 * for each file a raw item (`:100644 100644 <id> <id> M`) and its path, then for each file its count of lines
 * (`1\t2\t<path>`). A renamed file has two paths, old and new, each an item of its own.
 */
import { isUtf8 } from "node:buffer"
import type { Change, Commit } from "./History.js"

/** The format of `git log` that this parser reads. */
export const format = "%H %P%x00%an <%ae>%x00%ct"

/** Years 0 to 9999: what an event can carry. Commits with nonsense for a time do exist. */
const timeMsMin = Date.parse("0000-01-01T00:00:00Z")
const timeMsMax = Date.parse("9999-12-31T23:59:59Z")

type Lines = Change["lines"]
type MutableCommit = Omit<Commit, "changes"> & { readonly changes: Array<Change> }

export class GitLogParser {
  private rest: Buffer = Buffer.alloc(0)
  private commit: MutableCommit | undefined
  private files: Array<{ readonly status: string; readonly from: string; readonly path: string }> = []
  private lines = new Map<string, Lines>()
  /** The items that the one before announced, and who takes them. */
  private awaited: { readonly count: number; readonly take: (items: ReadonlyArray<Buffer>) => void } | undefined
  private collected: Array<Buffer> = []
  private done: Array<Commit> = []

  /** The commits that these bytes complete. */
  push(bytes: Uint8Array): Array<Commit> {
    const input = this.rest.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.rest, bytes])
    let start = 0
    for (let end = input.indexOf(0, start); end !== -1; end = input.indexOf(0, start)) {
      this.item(input.subarray(start, end))
      start = end + 1
    }
    this.rest = input.subarray(start)
    return this.take()
  }

  /** The last commit. */
  end(): Array<Commit> {
    if (this.rest.length > 0 || this.awaited !== undefined)
      throw new Error("git's output ends in the middle of a commit")
    this.finish()
    return this.take()
  }

  private item(item: Buffer): void {
    if (this.awaited !== undefined) {
      this.collected.push(item)
      if (this.collected.length < this.awaited.count) return
      const { take } = this.awaited
      const items = this.collected
      this.awaited = undefined
      this.collected = []
      take(items)
      return
    }
    // what git prints before the first file of a commit
    const text = item.toString("latin1").replace(/^\n/, "")
    if (text.startsWith(":")) this.raw(text)
    else if (/^(?:\d+|-)\t/.test(text)) this.numstat(item, text)
    else this.header(text)
  }

  private header(text: string): void {
    this.finish()
    const [hash, parent] = /^([0-9a-f]{40,64}) ([0-9a-f]{40,64})?/.exec(text)?.slice(1) ?? []
    if (hash === undefined) throw new Error(`git printed what is not a commit: ${JSON.stringify(text.slice(0, 100))}`)
    this.await(2, ([author, time]) => {
      const timeMs = Math.min(Math.max(Number(time) * 1000, timeMsMin), timeMsMax)
      this.commit = {
        hash,
        parent: parent ?? null,
        author: decode(author),
        timeMs: Math.trunc(timeMs) || 0,
        changes: []
      }
    })
  }

  private raw(text: string): void {
    const status = text.slice(text.lastIndexOf(" ") + 1).charAt(0)
    const twoPaths = status === "R" || status === "C"
    this.await(twoPaths ? 2 : 1, (paths) => {
      this.files.push({ status, from: decode(paths[0]), path: decode(paths[paths.length - 1]) })
    })
  }

  private numstat(item: Buffer, text: string): void {
    const [added = "", removed = ""] = text.split("\t", 2)
    const lines = added === "-" ? null : { added: Number(added), removed: Number(removed) }
    const path = item.subarray(item.length - (text.length - added.length - removed.length - 2))
    if (path.length > 0) this.lines.set(decode(path), lines)
    else this.await(2, ([, to]) => this.lines.set(decode(to), lines))
  }

  private await(count: number, take: (items: ReadonlyArray<Buffer>) => void): void {
    this.awaited = { count, take }
  }

  private finish(): void {
    if (this.commit === undefined) return
    for (const { from, path, status } of this.files) {
      const lines = this.lines.get(path) ?? null
      if (status === "R") this.commit.changes.push({ _tag: "Renamed", from, path, lines })
      else this.commit.changes.push({ _tag: tagOf(status), path, lines })
    }
    this.done.push(this.commit)
    this.commit = undefined
    this.files = []
    this.lines = new Map()
  }

  private take(): Array<Commit> {
    const { done } = this
    this.done = []
    return done
  }
}

const tagOf = (status: string): "Added" | "Deleted" | "Modified" =>
  // a copy leaves its source as it was
  status === "A" || status === "C" ? "Added" : status === "D" ? "Deleted" : "Modified"

/**
 * Bytes as text, so that different bytes are different texts: UTF-8 as it is, a byte that is not UTF-8 as `\xHH`, and,
 * so that nothing else looks like that, a backslash as two.
 */
export const decode = (bytes: Buffer | undefined = Buffer.alloc(0)): string => {
  if (isUtf8(bytes)) return bytes.toString("utf8").replaceAll("\\", "\\\\")
  let text = ""
  for (let at = 0; at < bytes.length; ) {
    const length = [1, 2, 3, 4].find((length) => at + length <= bytes.length && isUtf8(bytes.subarray(at, at + length)))
    text +=
      length === undefined
        ? `\\x${bytes.toString("hex", at, at + 1)}`
        : bytes.toString("utf8", at, at + length).replaceAll("\\", "\\\\")
    at += length ?? 1
  }
  return text
}
