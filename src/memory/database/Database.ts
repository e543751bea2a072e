/**
 * What stores in memory share: who may write when, what a transaction has changed, and how that is undone.
 *
 * States are changed in place. While a transaction is open, each change notes how to undo it, and whoever is outside of
 * the transaction reads a copy of the state on which its notes were undone. Most transactions end before anybody asks
 * for that copy, and without a transaction nothing is noted at all.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { type ReadFailure, StoreError, StoreUnavailable } from "../../Errors.js"
import * as Telemetry from "../../internal/telemetry.js"
import * as Uuid from "../../Uuid.js"
import { Gate } from "./Gate.js"

/** Undoes one change of a state, or of a copy of it, when all later ones have been undone. */
export type Undo<S> = (state: S) => void

/** What a transaction needs of a state to end. */
interface Undoable {
  /** How many changes could be undone. */
  readonly depth: number
  undoTo(depth: number): void
  /** There is no transaction any more. */
  settle(): void
}

/** A state of one store. `copy` shares nothing with it that a change would change in place. */
export class Kept<S> implements Undoable {
  private undos: Array<Undo<S>> = []
  private before: S | undefined

  constructor(
    private readonly database: Database,
    private readonly state: S,
    private readonly copy: (state: S) => S
  ) {}

  /** In a transaction: what that sees. Outside: what was committed. */
  read<A>(look: (state: S) => A): Effect.Effect<A, ReadFailure> {
    return Effect.withFiberRuntime((fiber) => {
      const transaction = this.database.current(fiber)
      if (transaction !== undefined) return transaction.step(() => look(this.state))
      return this.database.closed ? Exit.fail(closed()) : Exit.succeed(look(this.committed))
    })
  }

  /** One step. `committed` is called once it counts: at once, or when the outermost transaction is committed. */
  write<A>(
    change: (state: S, undo: (undo: Undo<S>) => void, now: () => number) => A,
    committed?: (value: A) => void
  ): Effect.Effect<A, ReadFailure> {
    return Effect.withFiberRuntime((fiber) => {
      const transaction = this.database.current(fiber)
      const now = () => Context.get(fiber.currentDefaultServices, Clock.Clock).unsafeCurrentTimeMillis()
      if (transaction === undefined) {
        return this.database.step(() => {
          const value = change(this.state, ignore, now)
          committed?.(value)
          return value
        })
      }
      return transaction.step(() => {
        const value = change(this.state, (undo) => this.undos.push(undo), now)
        if (committed !== undefined) transaction.onCommit(() => committed(value))
        return value
      })
    })
  }

  private get committed(): S {
    if (this.undos.length === 0) return this.state
    if (this.before === undefined) {
      this.before = this.copy(this.state)
      for (const undo of this.undos.toReversed()) undo(this.before)
    }
    return this.before
  }

  get depth(): number {
    return this.undos.length
  }

  undoTo(depth: number): void {
    for (const undo of this.undos.splice(depth).reverse()) undo(this.state)
  }

  settle(): void {
    this.undos = []
    this.before = undefined
  }
}

const ignore = () => {}

/** Takes its turn at the gate for a step that runs to its end without a pause. */
const stepAt = <A>(
  gate: Gate,
  refusal: () => ReadFailure | undefined,
  step: () => A
): Effect.Effect<A, ReadFailure> => {
  const enter = (): Exit.Exit<A, ReadFailure> => {
    const refused = refusal()
    try {
      return refused === undefined ? Exit.succeed(step()) : Exit.fail(refused)
    } catch (defect) {
      return Exit.die(defect)
    } finally {
      gate.release()
    }
  }
  return gate.tryTake() ? enter() : gate.wait(enter)
}

/** A transaction, or a savepoint in one: to those inside it is what the database is to those outside. */
class Transaction {
  /** A nested transaction holds it; what its siblings do meanwhile waits. */
  private readonly gate = new Gate()
  /** How far to undo, once it has begun; a state that is not named is younger. */
  private depths: Map<Undoable, number> | undefined
  private readonly whenCommitted: Array<() => void> = []
  private hasTurn = false
  private committed = false
  private closing = false
  private ended = false

  constructor(
    private readonly database: Database,
    private readonly parent: Transaction | undefined
  ) {}

  /** The innermost transaction that is not ending: what a forked fiber does from then on happens outside. */
  get current(): Transaction | undefined {
    return this.closing ? this.parent?.current : this
  }

  step<A>(step: () => A): Effect.Effect<A, ReadFailure> {
    return stepAt(this.gate, () => this.refusal, step)
  }

  /** Runs when the outermost transaction has committed; not if anything up to there rolls back. */
  onCommit(callback: () => void): void {
    this.whenCommitted.push(callback)
  }

  private get isAlive(): boolean {
    return !this.ended && (this.parent?.isAlive ?? !this.database.closed)
  }

  private get refusal(): ReadFailure | undefined {
    if (this.isAlive) return undefined
    return this.database.closed ? closed() : gone("it was rolled back before its end")
  }

  private get outside(): Gate {
    return this.parent === undefined ? this.database.gate : this.parent.gate
  }

  readonly begin: Effect.Effect<void, ReadFailure> = Effect.suspend(() => {
    const enter = (): Exit.Exit<void, ReadFailure> => {
      this.hasTurn = true
      if (this.database.closed) return Exit.fail(closed())
      // It waited while the outer one came to its end.
      if (this.parent?.closing) return Exit.fail(gone("the transaction around it was at its end"))
      this.depths = new Map([...this.database.states].map((state) => [state, state.depth]))
      return Exit.void
    }
    return this.outside.tryTake() ? enter() : this.outside.wait(enter)
  })

  /** Fails while a nested transaction is open: only a fiber that nobody waited for can still be in one. */
  readonly commit: Effect.Effect<void, ReadFailure> = Effect.suspend(() => {
    this.closing = true
    const refused = this.gate.isFree ? this.refusal : outlived()
    if (refused !== undefined) return Effect.fail(refused)
    this.committed = true
    return Effect.void
  })

  /** Undoes what was not committed, and lets the next one in. */
  readonly end: Effect.Effect<void> = Effect.sync(() => {
    this.closing = true
    if (!this.hasTurn) return
    // With the outer one everything in it was undone already.
    if (!this.committed && this.depths !== undefined && !this.parent?.ended) {
      for (const state of this.database.states) state.undoTo(this.depths.get(state) ?? 0)
    }
    this.ended = true
    if (this.parent === undefined) for (const state of this.database.states) state.settle()
    if (this.committed) {
      for (const callback of this.whenCommitted) {
        if (this.parent === undefined) callback()
        else this.parent.onCommit(callback)
      }
    }
    this.outside.release()
  })
}

const spanned = Telemetry.transactions("MemoryDatabase", { system: "memory" })

export class Database {
  readonly gate = new Gate()
  readonly states = new Set<Undoable>()
  closed = false
  // The key is this database's own, so two databases never see each other's transactions.
  private readonly tag = Context.GenericTag<Transaction>(`effect-stores/memory/Transaction/${Uuid.v7(Date.now())}`)

  keep<S>(state: S, copy: (state: S) => S): Kept<S> {
    const kept = new Kept(this, state, copy)
    this.states.add(kept)
    return kept
  }

  current(fiber: Pick<Fiber.RuntimeFiber<unknown, unknown>, "currentContext">): Transaction | undefined {
    const transaction: Transaction | undefined = fiber.currentContext.unsafeMap.get(this.tag.key)
    return transaction?.current
  }

  step<A>(step: () => A): Effect.Effect<A, ReadFailure> {
    return stepAt(this.gate, () => (this.closed ? closed() : undefined), step)
  }

  /**
   * 1. Waits for its turn; can be interrupted.
   * 2. The effect; then the commit, whose failure fails the effect.
   * 3. Whatever has failed or was interrupted: everything is undone. The next one has its turn.
   */
  readonly transaction = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | ReadFailure, R> =>
    Effect.withFiberRuntime((fiber) => {
      const parent = this.current(fiber)
      const transaction = new Transaction(this, parent)
      const whole = transaction.begin.pipe(
        Effect.zipRight(Effect.provideService(self, this.tag, transaction)),
        Effect.zipLeft(transaction.commit),
        Effect.ensuring(transaction.end)
      )
      return spanned(fiber, parent !== undefined, whole)
    })

  /** A transaction under way cannot go on, and at its end those who wait are refused. */
  close(): void {
    this.closed = true
  }
}

const closed = (): StoreUnavailable =>
  new StoreUnavailable({ operation: "memory", retryable: false, cause: new Error("the database is closed") })

const gone = (why: string): StoreError => new StoreError({ operation: "transaction", cause: new Error(why) })

const outlived = (): StoreError =>
  new StoreError({
    operation: "COMMIT",
    cause: new Error("a transaction inside it is still open: wait for its fiber before the outer one ends")
  })
