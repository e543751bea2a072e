/**
 * Who waits for the lock of a stream in the process, and who on the server: one of each stream, and few in all. Streams
 * that are locked elsewhere so take a connection each at most, and others always find one.
 */

export interface StreamQueuesOptions<A> {
  /** Under way at the same time, at most. */
  readonly underWayMax: number
  readonly waitingMax: number
  readonly streamOf: (item: A) => string
  /** In milliseconds since the epoch; who waits still is then expired. */
  readonly deadlineOf: (item: A) => number
  /** Calls back when it has ended, also synchronously. */
  readonly start: (item: A, ended: () => void) => void
  /** Its time is over, or there is no place to wait in. */
  readonly expire: (item: A, waiting: number) => void
}

export class StreamQueues<A> {
  // Of each stream that has one under way or waiting; in order of arrival.
  private readonly queues = new Map<string, Map<A, NodeJS.Timeout>>()
  // Streams that have none under way, in their order.
  private readonly ready = new Set<string>()
  private underWay = 0
  private waiting = 0
  private starting = false

  constructor(private readonly options: StreamQueuesOptions<A>) {}

  /** Starts the item now or when it is its turn. */
  add(item: A): void {
    const { deadlineOf, expire, streamOf, waitingMax } = this.options
    if (this.waiting >= waitingMax) return expire(item, this.waiting)
    const stream = streamOf(item)
    let queue = this.queues.get(stream)
    if (queue === undefined) {
      queue = new Map()
      this.queues.set(stream, queue)
      this.ready.add(stream)
    }
    // Who waits here waits for statements under way, which keep the process alive; left behind, the timer must not.
    const timer = setTimeout(
      () => {
        if (this.leave(item)) expire(item, this.waiting)
      },
      Math.min(Math.max(0, deadlineOf(item) - Date.now()), 2 ** 31 - 1)
    ).unref()
    queue.set(item, timer)
    this.waiting++
    this.startNext()
  }

  /** False when it does not wait (any more). */
  leave(item: A): boolean {
    const queue = this.queues.get(this.options.streamOf(item))
    return queue !== undefined && this.remove(queue, item)
  }

  private remove(queue: Map<A, NodeJS.Timeout>, item: A): boolean {
    clearTimeout(queue.get(item))
    if (!queue.delete(item)) return false
    this.waiting--
    return true
  }

  private startNext(): void {
    // What is started may end synchronously and lead back here; the loop goes on instead of nesting without end.
    if (this.starting) return
    this.starting = true
    for (const stream of this.ready) {
      if (this.underWay >= this.options.underWayMax) break
      this.ready.delete(stream)
      const queue = this.queues.get(stream) as Map<A, NodeJS.Timeout>
      const next = queue.keys().next()
      if (next.done) {
        this.queues.delete(stream)
        continue
      }
      this.remove(queue, next.value)
      this.underWay++
      this.options.start(next.value, () => {
        this.underWay--
        this.ready.add(stream)
        this.startNext()
      })
    }
    this.starting = false
  }
}
