/**
 * What waits in the process to be sent with others: in order of arrival, bounded, and none for longer than its time.
 */
import { PoolTimeout } from "../../Errors.js"
import type { Limits } from "../../Pool.js"

/** In epoch milliseconds; an item that still waits then has expired. */
interface Waiting {
  readonly deadline: number
}

/** Running groups, at most. Two keep the server busy while a result travels; more would make groups smaller. */
export const underWayMax = 2

/** How long a statement that others are sent with waits for a lock: longer than most transactions last. */
export const impatientLockTimeoutMs = 50

/** Bounds what is sent at once. */
export const groupCharsMax = 1024 * 1024

export class Line<A extends Waiting> {
  // In order of arrival, and so of deadlines: all have the same time.
  private readonly items = new Set<A>()
  private timer: NodeJS.Timeout | undefined

  constructor(
    private readonly limits: Pick<Limits, "acquireTimeoutMs" | "maxWaiting">,
    private readonly expire: (item: A, error: PoolTimeout) => void
  ) {}

  get size(): number {
    return this.items.size
  }

  /** When the time of one that comes now is over. */
  deadline(): number {
    return Date.now() + this.limits.acquireTimeoutMs
  }

  /** Expires at once if the line is full. */
  add(item: A): void {
    if (this.items.size >= this.limits.maxWaiting) return this.expire(item, timedOut(0, this.items.size))
    this.items.add(item)
    if (this.timer === undefined) this.watch()
  }

  /** False when it does not wait (any more). */
  leave(item: A): boolean {
    return this.items.delete(item)
  }

  /** Removes those at the front, while they are wanted. */
  take(wanted: (item: A) => boolean): ReadonlyArray<A> {
    const taken: Array<A> = []
    for (const item of this.items) {
      if (!wanted(item)) break
      this.items.delete(item)
      taken.push(item)
    }
    return taken
  }

  private watch(): void {
    this.timer = undefined
    for (const item of this.items) {
      const left = item.deadline - Date.now()
      if (left > 0) {
        // Items in the line wait for running statements, which keep the process alive. A timer left over must not.
        this.timer = setTimeout(() => this.watch(), Math.min(left, 2 ** 31 - 1)).unref()
        return
      }
      this.items.delete(item)
      this.expire(item, timedOut(this.limits.acquireTimeoutMs, this.items.size))
    }
  }
}

export const timedOut = (waitedMs: number, waiting: number): PoolTimeout =>
  new PoolTimeout({ waitedMs, open: underWayMax, waiting })
