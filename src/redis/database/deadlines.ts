/**
 * When those who wait for a reply stop waiting. A timer for each would cost as much as its command, so one is set to
 * the earliest, and another only after that.
 */

export interface Waiting {
  /** Undefined until its command has left, which is at the end of the turn that sends it, however long that takes. */
  untilMs: number | undefined
  readonly expire: () => void
}

export class Deadlines {
  private readonly waiting = new Set<Waiting>()
  private leaving: Array<Waiting> = []
  private timer: NodeJS.Timeout | undefined
  private timerMs = Number.POSITIVE_INFINITY

  constructor(private readonly timeoutMs: number) {}

  add(waiting: Waiting): void {
    this.waiting.add(waiting)
    this.leaving.push(waiting)
    if (this.leaving.length === 1) setImmediate(() => this.leave())
  }

  /** False where it has expired. */
  delete(waiting: Waiting): boolean {
    return this.waiting.delete(waiting)
  }

  private leave(): void {
    const untilMs = performance.now() + this.timeoutMs
    let earliestMs = untilMs
    for (const waiting of this.leaving) {
      waiting.untilMs ??= untilMs
      earliestMs = Math.min(earliestMs, waiting.untilMs)
    }
    this.leaving = []
    this.wake(earliestMs)
  }

  private wake(atMs: number): void {
    if (atMs >= this.timerMs) return
    clearTimeout(this.timer)
    this.timerMs = atMs
    // After a long synchronous step, timers run first, although the reply may have arrived long ago. The socket keeps
    // the process, not the timer: nobody may be waiting any more.
    const leftMs = Math.max(1, Math.ceil(atMs - performance.now()))
    this.timer = setTimeout(() => setImmediate(() => this.expire()), leftMs).unref()
  }

  private expire(): void {
    const nowMs = performance.now()
    let earliestMs = Number.POSITIVE_INFINITY
    for (const waiting of [...this.waiting]) {
      if (waiting.untilMs === undefined) continue
      if (waiting.untilMs > nowMs) earliestMs = Math.min(earliestMs, waiting.untilMs)
      else if (this.waiting.delete(waiting)) waiting.expire()
    }
    this.timerMs = Number.POSITIVE_INFINITY
    if (earliestMs < Number.POSITIVE_INFINITY) this.wake(earliestMs)
  }
}
