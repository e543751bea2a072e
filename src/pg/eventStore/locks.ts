/**
 * The two advisory locks that carry the EventStore's guarantees, both held to the end of the transaction. PostgreSQL
 * identifies an advisory lock by 64 bits, given as two numbers of 32 or as one of 64.
 *
 * The stream lock is exclusive: one append to a stream at a time. Two streams with the same hash only wait for each
 * other. No table of streams is needed, so an append writes nothing but its events.
 *
 *     63                             32 31                              0
 *     +--------------------------------+--------------------------------+
 *     | oid of the events table        | hash of the stream             |   two keys
 *     +--------------------------------+--------------------------------+
 *
 * The epoch lock is shared, and says "positions greater than this may still be uncommitted". A reader takes the minimum
 * over `pg_locks`. Its order matters: stream lock, epoch lock, `nextval`. The technique is that of the Rust library
 * disintegrate. Its flaw, which lost events, is repaired: the bound is read in a statement before the scan, never in
 * the same one.
 *
 *     63 62            48 47                                            0
 *     +-+----------------+----------------------------------------------+
 *     |1| 15 bits of oid | last value of the sequence                   |   one key
 *     +-+----------------+----------------------------------------------+
 */
import type { Names } from "../database/names.js"

export const make = (names: Names) => {
  const store = `'${names.qualified("events")}'::regclass::oid`
  const sequence = `'${names.qualified("positions")}'::regclass`
  const lastPosition = `${names.qualified("last_position")}()`

  // The upper 16 bits of the epoch lock's key. As a signed number they are negative, so they are no
  // lock of a user who counts from 0.
  const epochSpace = `(32768 | (${store}::bigint & 32767))`
  const takeEpochLock = `pg_advisory_xact_lock_shared(((${epochSpace} - 65536) << 48) | ${lastPosition})`

  // A transaction that has appended before needs no second epoch lock. Locks last as long as the transaction and
  // readers take their minimum, so the first, with the smallest value, makes later ones redundant; one per append would
  // fill the server's lock table. A setting local to the transaction records that the lock is held, because a rollback
  // to a savepoint undoes both at the same moment. Its value identifies the table, in case it is created again under
  // the same name.
  const epochSetting = `'effect_stores.${names.channel}'`
  const takeEpochLockOnce = `if current_setting(${epochSetting}, true) is distinct from ${store}::text then
    perform ${takeEpochLock};
    perform set_config(${epochSetting}, ${store}::text, true);
  end if`

  // `pg_locks` shows a key of 64 bits in halves.
  const position = "(l.classid::bigint << 32 | l.objid::bigint) & ((1::bigint << 48) - 1)"
  const epochLocks = `l.locktype = 'advisory' and l.objsubid = 1
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and l.classid::bigint >> 16 = ${epochSpace}`

  /** The smallest last value in a lock that is held; null if none is. */
  const pendingPosition = `select min(${position})
    from pg_locks l
    where ${epochLocks}`

  /** The transaction whose lock that is, and what of it this user may see. */
  const holder = `select l.pid, a.application_name, a.state,
      (extract(epoch from clock_timestamp() - a.xact_start) * 1000)::bigint
    from pg_locks l left join pg_stat_activity a on a.pid = l.pid
    where ${epochLocks}
    order by ${position} limit 1`

  return {
    sequence,
    lastPosition,
    takeEpochLock,
    takeEpochLockOnce,
    pendingPosition,
    holder,
    // `hashtext` is undocumented and may change with a major version. Nothing stored rests on it: a lock lasts no
    // longer than its transaction.
    streamHash: (tenant: string, domain: string, aggregate: string) =>
      `hashtext(${tenant} || chr(1) || ${domain} || chr(1) || ${aggregate})`,
    takeStreamLock: (hash: string) => `pg_advisory_xact_lock(${store}::int, ${hash})`,
    tryStreamLock: (hash: string) => `pg_try_advisory_xact_lock(${store}::int, ${hash})`
  }
}
