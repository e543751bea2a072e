/**
 * What each error of PostgreSQL, of its driver and of the socket means: the tables, and one real case of each meaning.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { EventStore } from "effect-stores"
import { EventStorePg, PgDatabase } from "effect-stores/pg"
import Pg from "pg"
import { beforeAll, describe, expect } from "vitest"
import { classify, isPlanDead, openFailure } from "../../src/pg/database/failures.js"
import { describePg, freshDatabase } from "../support/backends.js"
import { query } from "./support/query.js"

const serverError = (code: string, routine?: string) =>
  Object.assign(new Pg.DatabaseError("said by the server", 1, "error"), { code, routine })
const socketError = (code: string, message = code) => Object.assign(new Error(message), { code })

describe("by the tables", () => {
  const meaning = (error: unknown) => {
    const [read, write] = (["read", "write"] as const).map((kind) => classify(error, kind, "asking")._tag)
    return read === write ? read : `${read}/${write}`
  }

  it.each([
    ["StoreUnavailable", ["40001", "40P01", "55P03", "55006", "57014", "25006", "25P03", "25P04", "72000", "58030"]],
    ["StoreUnavailable", ["53000", "53100", "53200", "53300", "57P03", "26000"]],
    ["StoreUnavailable/CommitOutcomeUnknown", ["08000", "08003", "08006", "57P01", "57P02", "57P05", "40003"]],
    ["StoreError", ["0A000", "22001", "22P02", "22P05", "23505", "23514", "25001", "25P02", "28P01", "3D000", "3F000"]],
    ["StoreError", ["40002", "42501", "42601", "42P01", "42883", "53400", "54000", "55000", "57P04", "58P01", "F0000"]],
    ["StoreError", ["HV000", "P0001", "XX000", "XX001", "XX002", "99999", ""]]
  ] as const)("a statement that fails is %s for %j", (expected, codes) => {
    for (const code of codes) expect(meaning(serverError(code)), code).toBe(expected)
  })

  it("a transaction that the server has ended for its length is not worth another attempt as it is", () => {
    for (const code of ["25P03", "25P04"]) {
      expect(classify(serverError(code), "write", "asking")).toMatchObject({ retryable: false })
    }
    expect(classify(serverError("40P01"), "write", "asking")).toMatchObject({ retryable: true })
  })

  it("a socket that fails under a statement may have lost its outcome, whatever its code looks like", () => {
    for (const code of ["EPIPE", "ECONNRESET", "ETIMEDOUT", ""]) {
      expect(meaning(socketError(code)), code).toBe("StoreUnavailable/CommitOutcomeUnknown")
    }
    expect(meaning(new TypeError("a parameter that cannot be sent"))).toBe("StoreError")
  })

  it.each([
    [
      "StoreUnavailable",
      ["ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "EAI_AGAIN", "EPIPE"]
    ],
    ["StoreUnavailable", ["ENOENT", "EMFILE", "EADDRNOTAVAIL", ""]],
    ["StoreError", ["ENOTFOUND", "EACCES", "EPERM", "EPROTO", "ERR_SSL_WRONG_VERSION_NUMBER"]],
    ["StoreError", ["CERT_HAS_EXPIRED", "CERT_NOT_YET_VALID", "DEPTH_ZERO_SELF_SIGNED_CERT", "CERT_REVOKED"]],
    ["StoreError", ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "SELF_SIGNED_CERT_IN_CHAIN", "ERR_TLS_CERT_ALTNAME_INVALID"]]
  ] as const)("a connection that cannot be opened is %s for %j", (expected, codes) => {
    for (const code of codes) expect(openFailure(socketError(code), false).error._tag, code).toBe(expected)
  })

  it("a connection that the server refuses is a mistake, or waited for when it is full or starting up", () => {
    for (const code of ["28000", "28P01", "3D000", "42501", "22023", "0A000"]) {
      expect(openFailure(serverError(code), true)).toMatchObject({ error: { _tag: "StoreError" }, later: false })
    }
    for (const code of ["53300", "57P03"]) {
      expect(openFailure(serverError(code), true)).toMatchObject({ error: { _tag: "StoreUnavailable" }, later: true })
    }
    for (const said of [
      "The server does not support SSL connections",
      "SASL: SCRAM-SERVER-FIRST-MESSAGE: no password"
    ]) {
      expect(openFailure(new Error(said), true).error._tag).toBe("StoreError")
    }
  })

  it("a name that was found before is not a mistake, and a certificate that was good before is one", () => {
    expect(openFailure(socketError("ENOTFOUND"), true).error._tag).toBe("StoreUnavailable")
    expect(openFailure(socketError("CERT_HAS_EXPIRED"), true).error._tag).toBe("StoreError")
  })

  it("only a plan that a change has killed is one of those that the server does not support", () => {
    expect(isPlanDead(serverError("0A000", "RevalidateCachedQuery"))).toBe(true)
    expect(meaning(serverError("0A000", "RevalidateCachedQuery"))).toBe("StoreUnavailable")
    expect(isPlanDead(serverError("26000"))).toBe(true)
    expect(isPlanDead(serverError("0A000", "exec_stmt_raise"))).toBe(false)
  })
})

describePg("on a server", () => {
  let url: string
  beforeAll(async () => {
    url = await freshDatabase()
  })
  const open = Layer.suspend(() => EventStorePg.layer({ url: Redacted.make(url), pool: { maxOpenConns: 1 } }))
  const stream = { tenantId: "t", domain: "d", aggregateId: "a" }

  it.live("a plan that a changed table has killed fails once as retryable, and its connection is given up", () =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql } = yield* PgDatabase.PgDatabase
      const pid = Effect.map(sql<{ pid: number }>`select pg_backend_pid() as pid`, ([row]) => row?.pid)
      yield* store.append(stream, [{ type: "Happened", data: {} }], { expected: "any" })
      const before = yield* Effect.zipLeft(pid, store.page({ limit: 1 }))
      yield* query(url, "alter table es_events alter column type type varchar")
      const failures: Array<string> = []
      const page = Effect.retry(
        Effect.tapError(store.page({ limit: 1 }), ({ _tag }) => Effect.sync(() => failures.push(_tag))),
        { while: ({ _tag }) => _tag === "StoreUnavailable" }
      )
      assert.lengthOf((yield* page).events, 1)
      assert.deepStrictEqual(failures, ["StoreUnavailable"])
      assert.notStrictEqual(yield* pid, before)
    }).pipe(Effect.provide(open))
  )

  it.live("a session that may only read fails to write as retryable, and a table that is gone fails for good", () =>
    Effect.gen(function* () {
      const store = yield* EventStore.EventStore
      const { sql } = yield* PgDatabase.PgDatabase
      yield* sql`set default_transaction_read_only = on`
      const append = store.append(stream, [{ type: "Happened", data: {} }], { expected: "any" })
      assert.deepInclude(yield* Effect.flip(append), { _tag: "StoreUnavailable" })
      yield* sql`set default_transaction_read_only = off`
      yield* append
      yield* query(url, "alter table es_events rename to gone")
      assert.deepInclude(yield* Effect.flip(store.count()), { _tag: "StoreError" })
    }).pipe(Effect.provide(open))
  )
})
