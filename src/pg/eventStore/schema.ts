/**
 * The EventStore's tables in PostgreSQL, and the migrations that create them with their functions (`functions.ts`).
 * What runs against them is in `statements.ts`.
 */
import type { EventIndex } from "../../internal/storeOptions.js"
import type { Names } from "../database/names.js"
import { bytesOf } from "../database/pages.js"
import type { StoreSchema } from "../database/schema/migrations.js"
import * as functions from "./functions.js"

/** The columns of a payload. */
export const payload = ["data", "metadata"]

/**
 * An event that by itself makes up much of a page. Such events have indexes of their own, which usually are empty, so
 * that a read finds out for next to nothing that it need not look at the sizes of the others: 1,000 of those are a
 * page.
 */
export const isLarge = `${bytesOf(payload)} > 4096`

const table = (n: Names): string => {
  const events = n.qualified("events")
  const positions = n.qualified("positions")
  return `
create sequence ${positions} as bigint cache 1;

create table ${events} (
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
alter sequence ${positions} owned by ${events}.position;
create index ${n.bare("events_command")} on ${events} (command_id, position) where command_id is not null;
create index ${n.bare("events_large")} on ${events} (position) where ${isLarge};
create index ${n.bare("events_large_version")} on ${events} (tenant_id, domain, aggregate_id, version)
  where ${isLarge};
`
}

const events = (n: Names): string => {
  const { append, appendAll, deleteStream, head, lastPosition, tryAppend } = functions.make(n)
  return [table(n), lastPosition, append, tryAppend, appendAll, head, deleteStream()].join("").trim()
}

/**
 * A row for each stream of which maintenance has changed an event. By itself, since it is hardly ever more than empty:
 * a read looks there for next to nothing, and an append not at all.
 */
const revisions = (n: Names): string =>
  `
create table ${n.qualified("revisions")} (
  tenant_id    text collate "C" not null,
  domain       text collate "C" not null,
  aggregate_id text collate "C" not null,
  revision     uuid not null,
  constraint ${n.bare("revisions_pkey")} primary key (tenant_id, domain, aggregate_id)
);
${functions.make(n).deleteStreamAndRevision}`.trim()

/** For databases whose first migration had functions that trusted the sequence. */
const checkedPositions = (n: Names): string => {
  const { append, appendAll, head, lastPosition, tryAppend } = functions.make(n)
  return [lastPosition, append, tryAppend, appendAll, head]
    .join("")
    .replaceAll(/^create function/gm, "create or replace function")
    .trim()
}

const groups = (n: Names): string => {
  const { appendEach, tryAppendAll } = functions.make(n)
  return [tryAppendAll, appendEach].join("").trim()
}

export const storeSchema: StoreSchema = {
  store: "EventStore",
  table: "events",
  migrations: [
    { id: 1, name: "events", sql: events },
    { id: 2, name: "revisions", sql: revisions },
    // True or null.
    { id: 3, name: "changed events", sql: (n) => `alter table ${n.qualified("events")} add column changed boolean;` },
    { id: 4, name: "last position", sql: checkedPositions },
    // Processes of the version before go on with the function that they have.
    { id: 5, name: "groups of any appends", sql: groups }
  ],
  indexes: {
    type: "(type, position)",
    domain: "(domain, position)",
    tenant: "(tenant_id, position)",
    time: "(created_ms, position)"
  } satisfies Record<EventIndex, string>,
  needs: {
    read: {
      tables: { events: ["select"], revisions: ["select"] },
      sequences: { positions: ["select"] },
      functions: ["last_position", "head"]
    },
    write: {
      tables: { events: ["insert"] },
      sequences: { positions: ["usage"] },
      functions: ["append", "try_append", "append_each", "append_all", "try_append_all"]
    }
  },
  positions: functions.positions
}
