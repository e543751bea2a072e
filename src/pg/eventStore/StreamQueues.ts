/**
 * Queues appends to locked streams: one per stream waits on the server, the others in the process, and few wait on the
 * server in all. So a stream that is locked elsewhere takes at most one connection, and other streams always find one.
 */

export interface StreamQueuesOptions<A> {
  /** Running at the same time, at most. */
  readonly underWayMax: number
  readonly waitingMax: number
  readonly keyOf: (item: A) => string
  /** In epoch milliseconds; an item that still waits then has expired. */
  readonly deadlineOf: (item: A) => number
  /** Calls back when it has ended, possibly synchronously. */
  readonly start: (item: A, ended: () => void) => void
  /** Its time is over, or the queue is full. */
  readonly expire: (item: A, waiting: number) => void
}

export class StreamQueues<A> {
  // The items of each stream that has one running or waiting, in order of arrival.
  private readonly queues = new Map<string, Map<A, NodeJS.Timeout>>()
  // Streams that have none running, in order.
  private readonly ready = new Set<string>()
  private underWay = 0
  private waiting = 0
  private starting = false

  constructor(private readonly options: StreamQueuesOptions<A>) {}

  /** Starts the item now or when it is its turn. */
  add(item: A): void {
    const { deadlineOf, expire, keyOf, waitingMax } = this.options
    if (this.waiting >= waitingMax) return expire(item, this.waiting)
    const stream = keyOf(item)
    let queue = this.queues.get(stream)
    if (queue === undefined) {
      queue = new Map()
      this.queues.set(stream, queue)
      this.ready.add(stream)
    }
    // Items in the queue wait for running statements, which keep the process alive. A timer left over must not.
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
    const queue = this.queues.get(this.options.keyOf(item))
    return queue !== undefined && this.remove(queue, item)
  }

  private remove(queue: Map<A, NodeJS.Timeout>, item: A): boolean {
    clearTimeout(queue.get(item))
    if (!queue.delete(item)) return false
    this.waiting--
    return true
  }

  private startNext(): void {
    // An item may end synchronously and call this again; the loop goes on instead of nesting without end.
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
