/**
 * The EventStore's functions in PostgreSQL, each a text of its own. An append is a function, so that it is one round
 * trip: it locks, compares, and inserts. The append functions return an outcome and take the same columns, those of one
 * event as single values, those of several as one array each.
 */
import type { Names } from "../database/names.js"
import { behind, isBehind, type Positions } from "../database/schema/positions.js"
import { impatientLockTimeoutMs } from "../groups/Line.js"
import * as locks from "./locks.js"

// How an expected version travels: exact versions are themselves, `noStream` is 0.
export const expectAny = -1
export const expectStreamExists = -2

// What the append functions return.
export const outcomeAppended = 0
export const outcomeConflict = 1
export const outcomeExists = 2
export const outcomeBusy = 3

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

  const appendEach = `
-- Independent appends in order, each with its own outcome. Waits for no stream's lock: the others would wait with it,
-- and two groups could wait for each other. All versions are read at once and all events inserted at once; in between
-- the versions are counted on, so that an append finds its stream as those before it have left it.
--   p_tenants, p_domains, p_aggregates: the streams of all, each of them once
--   p_parts: how many streams each append names, guards included
--   p_streams, p_expected, p_counts: which stream that is, from 1, its version and how many events are for it, as of
--     append_all
--   p_ids, p_types, p_data, p_metadata, p_key_ids, p_command_ids, p_instance_ids, p_created_ms: the events of all, none
--     of them twice
--   o_outcomes: as of append_all, or ${outcomeBusy}, a stream is locked, one for each append
--   o_at: the first of its streams that is not as expected, or is locked, from 1
--   o_versions, o_positions: as of append_all, one for each stream that an append names; null where unknown
create function ${names.qualified("append_each")}(
  p_tenants text[], p_domains text[], p_aggregates text[],
  p_parts int[], p_streams int[], p_expected bigint[], p_counts int[],
  p_ids uuid[], p_types text[], p_data text[], p_metadata text[],
  p_key_ids text[], p_command_ids text[], p_instance_ids text[], p_created_ms bigint[],
  out o_outcomes int[], out o_at int[], out o_versions bigint[], out o_positions bigint[]
) ${impatient} as $$
declare
  locked boolean[];
  versions bigint[];
  taken uuid[];
  places bigint[];
  place_versions bigint[];
  place_streams int[];
  first int;
  last int := 0;
  first_event int;
  last_event int := 0;
  event int;
  actual bigint;
  epoch_locked boolean := false;
begin
  ${refuseOldSnapshots}
  -- Full length from the start: an array begins with the first element that is set, and would be read shifted.
  o_at := array_fill(null::int, array[cardinality(p_parts)]);
  o_versions := array_fill(null::bigint, array[cardinality(p_streams)]);
  o_positions := o_versions;
  places := array_fill(null::bigint, array[cardinality(p_ids)]);
  place_versions := places;
  place_streams := places::int[];
  for s in 1 .. cardinality(p_tenants) loop
    locked[s] := ${lock.tryStreamLock(lock.streamHash("p_tenants[s]", "p_domains[s]", "p_aggregates[s]"))};
  end loop;
  versions := array(
    select case when s.is_locked then ${streamVersion(table, "s.tenant", "s.domain", "s.aggregate")} end
    from unnest(p_tenants, p_domains, p_aggregates, locked)
      with ordinality s (tenant, domain, aggregate, is_locked, n)
    order by s.n
  );
  taken := array(select e.id from ${table} e where e.id = any (p_ids));
  for append in 1 .. cardinality(p_parts) loop
    first := last + 1;
    last := last + p_parts[append];
    first_event := last_event + 1;
    o_outcomes[append] := ${outcomeAppended};
    for i in first .. last loop
      last_event := last_event + p_counts[i];
      if versions[p_streams[i]] is null and o_at[append] is null then
        o_outcomes[append] := ${outcomeBusy};
        o_at[append] := i - first + 1;
      end if;
    end loop;
    continue when o_at[append] is not null;
    if cardinality(taken) > 0 and p_ids[first_event:last_event] && taken then
      o_outcomes[append] := ${outcomeExists};
      continue;
    end if;
    for i in first .. last loop
      actual := versions[p_streams[i]];
      o_versions[i] := actual;
      if not ${isExpected("p_expected[i]", "actual")} then
        o_outcomes[append] := ${outcomeConflict};
        o_at[append] := i - first + 1;
        exit;
      end if;
    end loop;
    continue when o_at[append] is not null;
    if not epoch_locked then
      perform ${lock.takeEpochLock};
      epoch_locked := true;
    end if;
    event := first_event;
    for i in first .. last loop
      actual := o_versions[i];
      for n in 1 .. p_counts[i] loop
        actual := actual + 1;
        places[event] := nextval(${sequence});
        place_versions[event] := actual;
        place_streams[event] := p_streams[i];
        event := event + 1;
      end loop;
      continue when p_counts[i] = 0;
      versions[p_streams[i]] := actual;
      o_versions[i] := actual;
      o_positions[i] := places[event - 1];
    end loop;
  end loop;
  if epoch_locked then
    ${insertInto(table)}
    select
      e.position, e.id, p_tenants[e.stream], p_domains[e.stream], p_aggregates[e.stream], e.version, e.type, e.data,
      e.metadata, e.key_id, e.command_id, e.instance_id, e.created_ms
    from unnest(
      places, place_versions, place_streams, p_ids, p_types, p_data, p_metadata, p_key_ids, p_command_ids,
      p_instance_ids, p_created_ms
    ) e (
      position, version, stream, id, type, data, metadata, key_id, command_id, instance_id, created_ms
    )
    where e.position is not null;
  end if;
end $$;
`

  const appendToStreams = (
    name: string,
    options: string,
    take: Locking
  ): string => `create function ${names.qualified(name)}(
  p_tenants text[], p_domains text[], p_aggregates text[], p_expected bigint[], p_counts int[],
  p_ids uuid[], p_types text[], p_data text[], p_metadata text[],
  p_key_ids text[], p_command_ids text[], p_instance_ids text[], p_created_ms bigint[],
  out outcome int, out conflict_at int, out o_versions bigint[], out o_positions bigint[]
) ${options} as $$
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
    ${take.streamLock};
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
  ${take.epochLock};
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

  const appendAll = `
-- Appends to several streams; a stream with a count of 0 is a guard. Events stand in the order of their streams.
--   p_tenants, p_domains, p_aggregates, p_expected: the streams, as of append
--   p_counts: how many events are for each
--   p_ids, p_types, p_data, p_metadata, p_key_ids, p_command_ids, p_instance_ids, p_created_ms: the events
--   outcome: as of append; conflict_at: the first stream that is not as expected, from 1
--   o_versions, o_positions: of the last event of each stream, or the versions that were compared
${appendToStreams("append_all", patient, {
  streamLock: `perform ${lock.takeStreamLock("stream_hash")}`,
  epochLock: lock.takeEpochLockOnce
})}
`

  const tryAppendAll = `
-- The same, which never waits for long: the common case, outside of transactions.
--   Parameters as those of append_all; the outcome may also be ${outcomeBusy}, and conflict_at a stream that is locked
${appendToStreams("try_append_all", impatient, {
  streamLock: `if not ${lock.tryStreamLock("stream_hash")} then
      outcome := ${outcomeBusy};
      conflict_at := (
        select min(s.n)
        from unnest(p_tenants, p_domains, p_aggregates) with ordinality s (tenant, domain, aggregate, n)
        where ${lock.streamHash("s.tenant", "s.domain", "s.aggregate")} = stream_hash
      );
      return;
    end if`,
  epochLock: `perform ${lock.takeEpochLock}`
})}
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

  return {
    lastPosition,
    append,
    tryAppend,
    appendEach,
    appendAll,
    tryAppendAll,
    head,
    deleteStream,
    deleteStreamAndRevision
  }
}
