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

/** In order of arrival, and so of deadlines: all have the same time. */
export class Line<A extends Waiting> extends Set<A> {
  private timer: NodeJS.Timeout | undefined

  constructor(
    private readonly limits: Pick<Limits, "acquireTimeoutMs" | "maxWaiting">,
    private readonly expire: (item: A, error: PoolTimeout) => void
  ) {
    super()
  }

  /** Expires at once if the line is full. */
  override add(item: A): this {
    if (this.size >= this.limits.maxWaiting) this.expire(item, timedOut(0, this.size))
    else {
      super.add(item)
      if (this.timer === undefined) this.watch()
    }
    return this
  }

  /** Removes those at the front, while they are wanted. */
  take(wanted: (item: A) => boolean): ReadonlyArray<A> {
    const taken: Array<A> = []
    for (const item of this) {
      if (!wanted(item)) break
      this.delete(item)
      taken.push(item)
    }
    return taken
  }

  private watch(): void {
    this.timer = undefined
    for (const item of this) {
      const left = item.deadline - Date.now()
      if (left > 0) {
        // Items in the line wait for running statements, which keep the process alive. A timer left over must not.
        this.timer = setTimeout(() => this.watch(), Math.min(left, 2 ** 31 - 1)).unref()
        return
      }
      this.delete(item)
      this.expire(item, timedOut(this.limits.acquireTimeoutMs, this.size))
    }
  }
}

export const timedOut = (waitedMs: number, waiting: number): PoolTimeout =>
  new PoolTimeout({ waitedMs, open: underWayMax, waiting })
