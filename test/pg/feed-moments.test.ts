/**
 * The moments on which the feed hangs, each held by hand: an append that has drawn a position and not inserted it yet,
 * in each of the ways to append, and a reader between its two looks. Who reads then and resumes later misses nothing.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Redacted } from "effect"
import type { EventStore } from "effect-stores"
import { EventStorePg } from "effect-stores/pg"
import { describePg, freshDatabase } from "../support/backends.js"
import { eventually } from "../support/eventually.js"
import { build, connected, event, storedIds, streamOf } from "./support/feed-load.js"
import { query } from "./support/query.js"

/** An event at whose insertion the server stands still while `holding`. */
const heldEvent = () => ({ ...event(), type: "Held" })

/**
 * Sessions stand still in `hold()` while the test has its lock, and show that they do by a lock of their own. They look
 * again and again instead of waiting for the lock: most statements of the store wait for a lock but briefly.
 */
const setUp = (url: string) =>
  query(
    url,
    `create function hold() returns void language plpgsql as $$ begin
       perform pg_advisory_xact_lock_shared(4714);
       while not pg_try_advisory_xact_lock_shared(4713) loop perform pg_sleep(0.005); end loop;
     end $$;
     create function hold_insertion() returns trigger language plpgsql as $$ begin
       perform hold();
       return new;
     end $$;
     create trigger hold before insert on es_events for each row when (new.type = 'Held')
       execute function hold_insertion();
     alter function es_last_position() rename to es_last_position_kept;
     create function es_last_position() returns bigint language plpgsql as $$ begin
       if current_setting('application_name') = 'held' then perform hold(); end if;
       return es_last_position_kept();
     end $$`
  )

/** Lets the work begin, which goes on when the scope closes or when it is told to. */
const holding = (url: string) =>
  Effect.gen(function* () {
    const client = yield* connected(url)
    yield* Effect.promise(() => client.query("select pg_advisory_lock(4713)"))
    return {
      stands: eventually(
        query(
          url,
          `select from pg_locks where locktype = 'advisory' and objid = 4714 and granted
             and database = (select oid from pg_database where datname = current_database())`
        ),
        ({ rowCount }) => rowCount === 1
      ),
      goOn: Effect.promise(() => client.query("select pg_advisory_unlock(4713)"))
    }
  })

describePg("the feed on PostgreSQL in the moment", () => {
  const opened = Effect.gen(function* () {
    const url = yield* Effect.promise(freshDatabase)
    yield* EventStorePg.migrate({ url: Redacted.make(url) })
    yield* setUp(url)
    return { url, ...(yield* build(url)) }
  })

  type Opened = Effect.Effect.Success<typeof opened>

  /** Appends of which one is held at its insertion, whatever else of them is done by then. */
  const ways: ReadonlyArray<readonly [string, (opened: Opened) => Effect.Effect<unknown, EventStore.AppendError>]> = [
    ["one event", ({ store }) => store.append(streamOf(1), [heldEvent()], { expected: "any" })],
    ["several events", ({ store }) => store.append(streamOf(1), [heldEvent(), event()], { expected: "any" })],
    [
      "a group",
      ({ store }) =>
        // Two are sent at once, so the others are the next group.
        Effect.all(
          [event(), event(), event(), heldEvent(), event()].map((each, n) =>
            store.append(streamOf(n), [each], { expected: "any" })
          ),
          { concurrency: "unbounded" }
        )
    ],
    [
      "a transaction",
      ({ database, store }) => database.transaction(store.append(streamOf(1), [heldEvent()], { expected: "any" }))
    ]
  ]

  for (const [name, append] of ways) {
    it.live(`between a position and its insertion, by an append of ${name}, passes by nothing`, () =>
      Effect.gen(function* () {
        const opened_ = yield* opened
        const { url } = opened_
        const { store: reader } = yield* build(url)
        const { goOn, stands } = yield* holding(url)
        yield* reader.append(streamOf(100), [event()], { expected: "any" })
        const appending = yield* Effect.fork(append(opened_))
        yield* stands
        const later = event()
        yield* reader.append(streamOf(200), [later], { expected: "any" })
        const seen = yield* storedIds(reader)
        const at = yield* reader.head
        assert.notInclude(seen, later.id)
        yield* goOn
        yield* Fiber.join(appending)
        const { rows } = yield* query(url, "select id from es_events order by position")
        assert.deepStrictEqual(
          [...seen, ...(yield* storedIds(reader, at))],
          rows.map(({ id }) => id)
        )
      }).pipe(Effect.scoped)
    )
  }

  it.live("between a reader's looks at the sequence and at the locks passes by nothing", () =>
    Effect.gen(function* () {
      const { database, store, url } = yield* opened
      const { store: reader } = yield* build(url, { applicationName: "held" })
      yield* store.append(streamOf(1), [event()], { expected: "any" })
      const { goOn, stands } = yield* holding(url)
      const reading = yield* Effect.fork(reader.head)
      yield* stands
      const appended = yield* Effect.makeLatch()
      const end = yield* Effect.makeLatch()
      const [slow, quick] = [event(), event()]
      const appending = yield* Effect.fork(
        database.transaction(
          store
            .append(streamOf(2), [slow], { expected: "any" })
            .pipe(Effect.zipRight(appended.open), Effect.zipRight(end.await))
        )
      )
      yield* appended.await
      yield* store.append(streamOf(3), [quick], { expected: "any" })
      yield* goOn
      const at = yield* Fiber.join(reading)
      yield* end.open
      yield* Fiber.join(appending)
      assert.deepStrictEqual(yield* storedIds(store, at), [slow.id, quick.id])
    }).pipe(Effect.scoped)
  )
})
