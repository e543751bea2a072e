/**
 * The EventStore's objects in PostgreSQL: the versioned SQL that makes them. What runs against them is
 * in `statements.ts`.
 *
 * Two advisory locks carry the guarantees, both held to the end of the transaction:
 *
 * - the stream lock, exclusive, `(oid of the events table, hash of the stream)`: one append to a stream at a time. Two
 *   streams with the same hash only wait for each other. No table of streams is needed, so an append writes nothing but
 *   its events.
 * - the epoch lock, shared, `(0x8000 | 15 bits of the oid) << 48 | last value of the sequence`: says "positions greater
 *   than this may still be uncommitted". A reader takes the minimum over `pg_locks`. Its order matters: stream lock,
 *   epoch lock, `nextval`. The technique is that of the Rust library disintegrate. Its flaw, which lost events, is
 *   repaired: the bound is read in a statement before the scan, never in the same one.
 */
import type { StoreSchema } from "../database/migrations.js"
import type { Names } from "../database/names.js"
import { bytesOf } from "../database/pages.js"

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

/** The columns of a payload. */
export const payload = ["data", "metadata"]

/**
 * An event that by itself makes up much of a page. Such events have indexes of their own, which usually are empty, so
 * that a read finds out for next to nothing that it need not look at the sizes of the others: 1,000 of those are a
 * page.
 */
export const isLarge = `${bytesOf(payload)} > 4096`

const events = (n: Names): string => {
  const table = n.qualified("events")
  const positions = n.qualified("positions")
  const store = `'${table}'::regclass::oid`
  const sequence = `'${positions}'::regclass`
  const epochSpace = `((32768 | (${store}::bigint & 32767)) - 65536) << 48`
  const lastValue = `coalesce(pg_sequence_last_value(${sequence}), 0)`
  const takeEpochLock = `pg_advisory_xact_lock_shared((${epochSpace}) | ${lastValue})`
  const streamHash = (tenant: string, domain: string, aggregate: string) =>
    `hashtext(${tenant} || chr(1) || ${domain} || chr(1) || ${aggregate})`
  const takeStreamLock = (hash: string) => `pg_advisory_xact_lock(${store}::int, ${hash})`
  const tryStreamLock = (hash: string) => `pg_try_advisory_xact_lock(${store}::int, ${hash})`
  const isExpected = (expected: string, actual: string) =>
    `(${expected} = ${expectAny} or ${expected} = ${actual} or (${expected} = ${expectStreamExists} and ${actual} > 0))`
  // An old snapshot shows a stream as it was: an expected version or a guard might hold there but no longer, and the
  // feed would miss what was committed since.
  const refuseOldSnapshots = `if current_setting('transaction_isolation') not in
      ('read committed', 'read uncommitted') then
    raise 'appends, deleting a stream and the feed need a transaction that is read committed'
      using errcode = 'feature_not_supported';
  end if;`
  // A plan cached while the table was new and small scans it whole: appends became 20 times slower until the next
  // ANALYZE. Both lookups of an append have an index, so a sequential scan is never right.
  const functionOptions = `language plpgsql volatile set enable_seqscan = off`
  // An append that inserts an event id of another open transaction waits for the end of that transaction, and all
  // appends in the statement wait with it. So the statement gives up soon, and each append is tried alone.
  const impatientOptions = `${functionOptions} set lock_timeout = ${impatientLockTimeoutMs}`
  // A transaction that has appended before needs no second epoch lock. Locks last as long as the transaction and
  // readers take their minimum, so the first, with the smallest value, makes later ones redundant; one per append would
  // fill the server's lock table. A setting local to the transaction records that the lock is held, because a rollback
  // to a savepoint undoes both at the same moment. Its value identifies the table, in case it is created again under
  // the same name.
  const epochSetting = `'effect_stores.${n.channel}'`
  const takeEpochLockOnce = `if current_setting(${epochSetting}, true) is distinct from ${store}::text then
    perform ${takeEpochLock};
    perform set_config(${epochSetting}, ${store}::text, true);
  end if;`
  const appendFunction = (
    name: string,
    options: string,
    takeLock: string,
    takeEpoch: string
  ) => `create function ${name}(
  p_tenant text, p_domain text, p_aggregate text, p_expected bigint,
  p_id uuid, p_type text, p_data text, p_metadata text,
  p_key_id text, p_command_id text, p_instance_id text, p_created_ms bigint,
  out outcome int, out o_version bigint, out o_position bigint
) ${options} as $$
declare
  taken boolean;
begin
  ${refuseOldSnapshots}
  ${takeLock}
  select
    coalesce((
      select e.version from ${table} e
      where e.tenant_id = p_tenant and e.domain = p_domain and e.aggregate_id = p_aggregate
      order by e.version desc limit 1
    ), 0),
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
  ${takeEpoch}
  outcome := ${outcomeAppended};
  o_version := o_version + 1;
  o_position := nextval(${sequence});
  insert into ${table} values (
    o_position, p_id, p_tenant, p_domain, p_aggregate, o_version, p_type, p_data, p_metadata,
    p_key_id, p_command_id, p_instance_id, p_created_ms
  );
end $$;`

  return `
create sequence ${positions} as bigint cache 1;

create table ${table} (
  position     bigint primary key,
  id           uuid not null,
  tenant_id    text collate "C" not null,
  domain       text collate "C" not null,
  aggregate_id text collate "C" not null,
  version      bigint not null check (version > 0),
  type         text collate "C" not null,
  data         text not null,
  metadata     text not null,
  key_id       text,
  command_id   text collate "C",
  instance_id  text collate "C",
  created_ms   bigint not null,
  constraint ${n.bare("events_id")} unique (id),
  constraint ${n.bare("events_version")} unique (tenant_id, domain, aggregate_id, version)
);
alter sequence ${positions} owned by ${table}.position;
create index ${n.bare("events_command")} on ${table} (command_id, position) where command_id is not null;
create index ${n.bare("events_large")} on ${table} (position) where ${isLarge};
create index ${n.bare("events_large_version")} on ${table} (tenant_id, domain, aggregate_id, version) where ${isLarge};

-- Appends one event to one stream, and waits for the stream's lock.
${appendFunction(
  n.qualified("append"),
  functionOptions,
  `perform ${takeStreamLock(streamHash("p_tenant", "p_domain", "p_aggregate"))};`,
  takeEpochLockOnce
)}

-- The same, which never waits for long: the common case, outside of transactions.
${appendFunction(
  n.qualified("try_append"),
  impatientOptions,
  `if not ${tryStreamLock(streamHash("p_tenant", "p_domain", "p_aggregate"))} then
    outcome := ${outcomeBusy};
    return;
  end if;`,
  `perform ${takeEpochLock};`
)}

-- Independent appends of one event each, in order, each with its own outcome. Waits for no stream's lock: the others
-- would wait with it, and two groups could wait for each other.
create function ${n.qualified("append_group")}(
  p_tenants text[], p_domains text[], p_aggregates text[], p_expected bigint[],
  p_ids uuid[], p_types text[], p_data text[], p_metadata text[],
  p_key_ids text[], p_command_ids text[], p_instance_ids text[], p_created_ms bigint[],
  out o_outcomes int[], out o_versions bigint[], out o_positions bigint[]
) ${impatientOptions} as $$
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
    if not ${tryStreamLock(streamHash("p_tenants[i]", "p_domains[i]", "p_aggregates[i]"))} then
      o_outcomes[i] := ${outcomeBusy};
      continue;
    end if;
    select
      coalesce((
        select e.version from ${table} e
        where e.tenant_id = p_tenants[i] and e.domain = p_domains[i] and e.aggregate_id = p_aggregates[i]
        order by e.version desc limit 1
      ), 0),
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
      perform ${takeEpochLock};
      epoch_locked := true;
    end if;
    o_outcomes[i] := ${outcomeAppended};
    o_versions[i] := actual + 1;
    o_positions[i] := nextval(${sequence});
    insert into ${table} values (
      o_positions[i], p_ids[i], p_tenants[i], p_domains[i], p_aggregates[i], o_versions[i], p_types[i], p_data[i],
      p_metadata[i], p_key_ids[i], p_command_ids[i], p_instance_ids[i], p_created_ms[i]
    );
  end loop;
end $$;

-- Appends to several streams; a stream with a count of 0 is a guard. Events stand in the order of their streams.
create function ${n.qualified("append_all")}(
  p_tenants text[], p_domains text[], p_aggregates text[], p_expected bigint[], p_counts int[],
  p_ids uuid[], p_types text[], p_data text[], p_metadata text[],
  p_key_ids text[], p_command_ids text[], p_instance_ids text[], p_created_ms bigint[],
  out outcome int, out conflict_at int, out o_versions bigint[], out o_positions bigint[]
) ${functionOptions} as $$
declare
  stream_hash int;
  actual bigint;
  first int := 1;
  last int;
begin
  ${refuseOldSnapshots}
  -- In one order for all, so that appends to the same streams wait for each other instead of deadlocking.
  for stream_hash in
    select distinct ${streamHash("s.tenant", "s.domain", "s.aggregate")} as h
    from unnest(p_tenants, p_domains, p_aggregates) s (tenant, domain, aggregate)
    order by h
  loop
    perform ${takeStreamLock("stream_hash")};
  end loop;
  if exists (select from ${table} e where e.id = any (p_ids)) then
    outcome := ${outcomeExists};
    return;
  end if;
  for i in 1 .. cardinality(p_tenants) loop
    select coalesce((
      select e.version from ${table} e
      where e.tenant_id = p_tenants[i] and e.domain = p_domains[i] and e.aggregate_id = p_aggregates[i]
      order by e.version desc limit 1
    ), 0) into actual;
    o_versions[i] := actual;
    if not ${isExpected("p_expected[i]", "actual")} then
      outcome := ${outcomeConflict};
      conflict_at := i;
      return;
    end if;
  end loop;
  ${takeEpochLockOnce}
  outcome := ${outcomeAppended};
  for i in 1 .. cardinality(p_tenants) loop
    continue when p_counts[i] = 0;
    last := first + p_counts[i] - 1;
    insert into ${table}
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

-- A position up to which everything is committed or never will be. The last value is read before the locks: whoever
-- takes the lock later draws a greater position. To be scanned up to in a later statement, with a newer snapshot.
create function ${n.qualified("head")}() returns bigint language plpgsql volatile as $$
declare
  drawn bigint;
  pending bigint;
begin
  if pg_is_in_recovery() then
    raise 'the feed must be read on the primary: a standby does not see the locks of writers'
      using errcode = 'read_only_sql_transaction';
  end if;
  ${refuseOldSnapshots}
  drawn := coalesce(pg_sequence_last_value(${sequence}), 0);
  select min((l.classid::bigint << 32 | l.objid::bigint) & ((1::bigint << 48) - 1)) into pending
  from pg_locks l
  where l.locktype = 'advisory' and l.objsubid = 1
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and l.classid::bigint >> 16 = (32768 | (${store}::bigint & 32767));
  return least(drawn, pending);
end $$;

-- Deletes a stream under its lock, so that an append sees all of it or nothing.
create function ${n.qualified("delete_stream")}(p_tenant text, p_domain text, p_aggregate text)
returns bigint ${functionOptions} as $$
declare
  deleted bigint;
begin
  ${refuseOldSnapshots}
  perform ${takeStreamLock(streamHash("p_tenant", "p_domain", "p_aggregate"))};
  delete from ${table} e
  where e.tenant_id = p_tenant and e.domain = p_domain and e.aggregate_id = p_aggregate;
  get diagnostics deleted = row_count;
  return deleted;
end $$;
`.trim()
}

export const storeSchema: StoreSchema = {
  store: "EventStore",
  migrations: [{ id: 1, name: "events", sql: events }]
}
