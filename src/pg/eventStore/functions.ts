/**
 * The EventStore's functions in PostgreSQL, each a text of its own. An append is a function, so that it is one round
 * trip: it locks, compares, and inserts. The four append functions return an outcome and take the same columns, those
 * of one event as single values, those of several as one array each.
 */
import type { Names } from "../database/names.js"
import { behind, isBehind, type Positions } from "../database/schema/positions.js"
import * as locks from "./locks.js"

// How an expected version travels: exact versions are themselves, `noStream` is 0.
export const expectAny = -1
export const expectStreamExists = -2

// What the append functions return.
export const outcomeAppended = 0
export const outcomeConflict = 1
export const outcomeExists = 2
export const outcomeBusy = 3

/** How long a shared statement waits for a lock: longer than most transactions last. */
const impatientLockTimeoutMs = 50

// A plan cached while the table was new and small scans it whole: appends became 20 times slower until the next
// ANALYZE. Both lookups of an append have an index, so a sequential scan is never right.
const patient = "language plpgsql volatile set enable_seqscan = off"

// An append that inserts an event id of another open transaction waits for the end of that transaction, and all appends
// in the statement wait with it. So the statement gives up soon, and each append is tried alone.
const impatient = `${patient} set lock_timeout = ${impatientLockTimeoutMs}`

// An old snapshot shows a stream as it was: an expected version or a guard might hold there but no longer, and the feed
// would miss what was committed since.
const refuseOldSnapshots = `if current_setting('transaction_isolation') not in
      ('read committed', 'read uncommitted') then
    raise 'appends, deleting a stream and the feed need a transaction that is read committed'
      using errcode = 'feature_not_supported';
  end if;`

const isExpected = (expected: string, actual: string): string =>
  `(${expected} = ${expectAny} or ${expected} = ${actual} or (${expected} = ${expectStreamExists} and ${actual} > 0))`

/** The version of a stream, 0 if it has no events. */
const streamVersion = (table: string, tenant: string, domain: string, aggregate: string): string => `coalesce((
      select e.version from ${table} e
      where e.tenant_id = ${tenant} and e.domain = ${domain} and e.aggregate_id = ${aggregate}
      order by e.version desc limit 1
    ), 0)`

const insertInto = (table: string): string => `insert into ${table} (
      position, id, tenant_id, domain, aggregate_id, version, type, data, metadata,
      key_id, command_id, instance_id, created_ms
    )`

const appendOneEvent = (name: string, options: string, table: string, sequence: string, take: Locking): string =>
  `create function ${name}(
  p_tenant text, p_domain text, p_aggregate text, p_expected bigint,
  p_id uuid, p_type text, p_data text, p_metadata text,
  p_key_id text, p_command_id text, p_instance_id text, p_created_ms bigint,
  out outcome int, out o_version bigint, out o_position bigint
) ${options} as $$
declare
  taken boolean;
begin
  ${refuseOldSnapshots}
  ${take.streamLock};
  select
    ${streamVersion(table, "p_tenant", "p_domain", "p_aggregate")},
    exists (select from ${table} e where e.id = p_id)
  into o_version, taken;
  if taken then
    outcome := ${outcomeExists};
    return;
  end if;
  if not ${isExpected("p_expected", "o_version")} then
    outcome := ${outcomeConflict};
    return;
  end if;
  ${take.epochLock};
  outcome := ${outcomeAppended};
  o_version := o_version + 1;
  o_position := nextval(${sequence});
  ${insertInto(table)} values (
    o_position, p_id, p_tenant, p_domain, p_aggregate, o_version, p_type, p_data, p_metadata,
    p_key_id, p_command_id, p_instance_id, p_created_ms
  );
end $$;`

/** Where the feed's order comes from. */
export const positions: Positions = { table: "events", sequence: "positions" }

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** How an append takes its two locks, as statements of plpgsql. */
interface Locking {
  readonly streamLock: string
  readonly epochLock: string
}

export const make = (names: Names) => {
  const table = names.qualified("events")
  const lock = locks.make(names)
  const { sequence } = lock
  const ofParameters = lock.streamHash("p_tenant", "p_domain", "p_aggregate")

  const lastPosition = `
-- The greatest position that was drawn, 0 if none was. All that draw positions or bound a read ask it first, so none of
-- them goes on where the sequence is behind its table. To a role that may not see the sequence some versions of the
-- server say null, as of a sequence that was never used: that must not pass for 0.
create function ${names.qualified("last_position")}() returns bigint ${patient} as $$
declare
  is_behind boolean;
begin
  if pg_sequence_last_value(${sequence}) is null and not has_sequence_privilege(${sequence}, 'select, usage') then
    raise 'permission denied for sequence ${names.plain("positions")}' using errcode = 'insufficient_privilege';
  end if;
  select ${isBehind(names, positions)} into is_behind;
  if is_behind then
    raise exception using message = ${quoted(behind(names, positions))},
      errcode = 'object_not_in_prerequisite_state';
  end if;
  return coalesce(pg_sequence_last_value(${sequence}), 0);
end $$;
`

  const append = `
-- Appends one event to one stream, and waits for the stream's lock.
--   p_tenant, p_domain, p_aggregate: the stream
--   p_expected: its version; ${expectAny} for any, ${expectStreamExists} for any but 0
--   p_id, p_type, p_data, p_metadata, p_key_id, p_command_id, p_instance_id, p_created_ms: the event
--   outcome: ${outcomeAppended} appended, ${outcomeConflict} not as expected, ${outcomeExists} the id is taken
--   o_version, o_position: where the event is; if it was not appended, the version of the stream
${appendOneEvent(names.qualified("append"), patient, table, sequence, {
  streamLock: `perform ${lock.takeStreamLock(ofParameters)}`,
  epochLock: lock.takeEpochLockOnce
})}
`

  const tryAppend = `
-- The same, which never waits for long: the common case, outside of transactions.
--   Parameters as those of append; the outcome may also be ${outcomeBusy}, the stream is locked
${appendOneEvent(names.qualified("try_append"), impatient, table, sequence, {
  streamLock: `if not ${lock.tryStreamLock(ofParameters)} then
    outcome := ${outcomeBusy};
    return;
  end if`,
  epochLock: `perform ${lock.takeEpochLock}`
})}
`

  const appendGroup = `
-- Independent appends of one event each, in order, each with its own outcome. Waits for no stream's lock: the
-- others would wait with it, and two groups could wait for each other.
--   p_tenants, p_domains, p_aggregates, p_expected: the stream of each, as of try_append
--   p_ids, p_types, p_data, p_metadata, p_key_ids, p_command_ids, p_instance_ids, p_created_ms: the event of each
--   o_outcomes, o_versions, o_positions: as of try_append, one each; null where unknown
create function ${names.qualified("append_group")}(
  p_tenants text[], p_domains text[], p_aggregates text[], p_expected bigint[],
  p_ids uuid[], p_types text[], p_data text[], p_metadata text[],
  p_key_ids text[], p_command_ids text[], p_instance_ids text[], p_created_ms bigint[],
  out o_outcomes int[], out o_versions bigint[], out o_positions bigint[]
) ${impatient} as $$
declare
  actual bigint;
  taken boolean;
  epoch_locked boolean := false;
begin
  ${refuseOldSnapshots}
  -- Full length from the start: an array begins with the first element that is set, and would be read shifted.
  o_versions := array_fill(null::bigint, array[cardinality(p_tenants)]);
  o_positions := o_versions;
  for i in 1 .. cardinality(p_tenants) loop
    if not ${lock.tryStreamLock(lock.streamHash("p_tenants[i]", "p_domains[i]", "p_aggregates[i]"))} then
      o_outcomes[i] := ${outcomeBusy};
      continue;
    end if;
    select
      ${streamVersion(table, "p_tenants[i]", "p_domains[i]", "p_aggregates[i]")},
      exists (select from ${table} e where e.id = p_ids[i])
    into actual, taken;
    o_versions[i] := actual;
    if taken then
      o_outcomes[i] := ${outcomeExists};
      continue;
    end if;
    if not ${isExpected("p_expected[i]", "actual")} then
      o_outcomes[i] := ${outcomeConflict};
      continue;
    end if;
    if not epoch_locked then
      perform ${lock.takeEpochLock};
      epoch_locked := true;
    end if;
    o_outcomes[i] := ${outcomeAppended};
    o_versions[i] := actual + 1;
    o_positions[i] := nextval(${sequence});
    ${insertInto(table)} values (
      o_positions[i], p_ids[i], p_tenants[i], p_domains[i], p_aggregates[i], o_versions[i], p_types[i], p_data[i],
      p_metadata[i], p_key_ids[i], p_command_ids[i], p_instance_ids[i], p_created_ms[i]
    );
  end loop;
end $$;
`

  const appendAll = `
-- Appends to several streams; a stream with a count of 0 is a guard. Events stand in the order of their streams.
--   p_tenants, p_domains, p_aggregates, p_expected: the streams, as of append
--   p_counts: how many events are for each
--   p_ids, p_types, p_data, p_metadata, p_key_ids, p_command_ids, p_instance_ids, p_created_ms: the events
--   outcome: as of append; conflict_at: the first stream that is not as expected, from 1
--   o_versions, o_positions: of the last event of each stream, or the versions that were compared
create function ${names.qualified("append_all")}(
  p_tenants text[], p_domains text[], p_aggregates text[], p_expected bigint[], p_counts int[],
  p_ids uuid[], p_types text[], p_data text[], p_metadata text[],
  p_key_ids text[], p_command_ids text[], p_instance_ids text[], p_created_ms bigint[],
  out outcome int, out conflict_at int, out o_versions bigint[], out o_positions bigint[]
) ${patient} as $$
declare
  stream_hash int;
  actual bigint;
  first int := 1;
  last int;
begin
  ${refuseOldSnapshots}
  -- In one order for all, so that appends to the same streams wait for each other instead of deadlocking.
  for stream_hash in
    select distinct ${lock.streamHash("s.tenant", "s.domain", "s.aggregate")} as h
    from unnest(p_tenants, p_domains, p_aggregates) s (tenant, domain, aggregate)
    order by h
  loop
    perform ${lock.takeStreamLock("stream_hash")};
  end loop;
  if exists (select from ${table} e where e.id = any (p_ids)) then
    outcome := ${outcomeExists};
    return;
  end if;
  for i in 1 .. cardinality(p_tenants) loop
    actual := ${streamVersion(table, "p_tenants[i]", "p_domains[i]", "p_aggregates[i]")};
    o_versions[i] := actual;
    if not ${isExpected("p_expected[i]", "actual")} then
      outcome := ${outcomeConflict};
      conflict_at := i;
      return;
    end if;
  end loop;
  ${lock.takeEpochLockOnce};
  outcome := ${outcomeAppended};
  for i in 1 .. cardinality(p_tenants) loop
    continue when p_counts[i] = 0;
    last := first + p_counts[i] - 1;
    ${insertInto(table)}
    select
      nextval(${sequence}), e.id, p_tenants[i], p_domains[i], p_aggregates[i], o_versions[i] + e.n, e.type, e.data,
      e.metadata, e.key_id, e.command_id, e.instance_id, e.created_ms
    from unnest(
      p_ids[first:last], p_types[first:last], p_data[first:last], p_metadata[first:last], p_key_ids[first:last],
      p_command_ids[first:last], p_instance_ids[first:last], p_created_ms[first:last]
    ) with ordinality e (id, type, data, metadata, key_id, command_id, instance_id, created_ms, n);
    o_versions[i] := o_versions[i] + p_counts[i];
    o_positions[i] := currval(${sequence});
    first := last + 1;
  end loop;
end $$;
`

  const head = `
-- A position up to which everything is committed or never will be. The last value is read before the locks: whoever
-- takes the lock later draws a greater position. To be scanned up to in a later statement, with a newer snapshot.
create function ${names.qualified("head")}() returns bigint language plpgsql volatile as $$
declare
  drawn bigint;
  pending bigint;
begin
  if pg_is_in_recovery() then
    raise 'the feed must be read on the primary: a standby does not see the locks of writers'
      using errcode = 'read_only_sql_transaction';
  end if;
  ${refuseOldSnapshots}
  drawn := ${lock.lastPosition};
  pending := (
    ${lock.pendingPosition}
  );
  return least(drawn, pending);
end $$;
`

  /** `more`: what else is deleted with it. */
  const deleteStream = (more = "") => `
-- Deletes a stream under its lock, so that an append sees all of it or nothing.
--   p_tenant, p_domain, p_aggregate: the stream; returns the number of events it had
create or replace function ${names.qualified("delete_stream")}(p_tenant text, p_domain text, p_aggregate text)
returns bigint ${patient} as $$
declare
  deleted bigint;
begin
  ${refuseOldSnapshots}
  perform ${lock.takeStreamLock(ofParameters)};
  delete from ${table} e
  where e.tenant_id = p_tenant and e.domain = p_domain and e.aggregate_id = p_aggregate;
  get diagnostics deleted = row_count;${more}
  return deleted;
end $$;
`

  const deleteStreamAndRevision = deleteStream(`
  delete from ${names.qualified("revisions")} r
  where r.tenant_id = p_tenant and r.domain = p_domain and r.aggregate_id = p_aggregate;`)

  return { lastPosition, append, tryAppend, appendGroup, appendAll, head, deleteStream, deleteStreamAndRevision }
}
