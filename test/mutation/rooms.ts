/**
 * The rooms that mutants are put into: the folders of the contracts, of what they share, and of the backend in memory.
 * Each has the tests that tell a mutant there. They need no server and take seconds, since they run for every mutant.
 */
import * as fs from "node:fs"
import * as path from "node:path"

export interface Room {
  /** Folders, and files on top of src. */
  readonly sources: ReadonlyArray<string>
  readonly tests: ReadonlyArray<string>
}

export const rooms: Readonly<Record<string, Room>> = {
  aggregate: {
    sources: ["src/aggregate"],
    tests: [
      "test/{aggregate,aggregate-lives,aggregate-redaction,aggregate-saves,aggregate-snapshots}.test.ts",
      "test/{background-saves,command-aggregate,fingerprint,snapshot-outages,snapshot-policy,upcasting}.test.ts"
    ]
  },
  cacheStore: {
    sources: ["src/cacheStore", "src/CacheStoreTwoLevels.ts"],
    tests: ["test/cache/{backend-calls,breaker,memory,moments}.test.ts", "test/cache-store.{memory,two-levels}.test.ts"]
  },
  checkpointStore: {
    sources: ["src/checkpointStore"],
    tests: ["test/checkpoint-store.{memory,sqlite}.test.ts"]
  },
  commandStore: {
    sources: ["src/commandStore"],
    tests: ["test/command-store.memory.test.ts", "test/{command-aggregate,command-execution}.test.ts"]
  },
  crypto: {
    sources: ["src/crypto"],
    tests: ["test/crypto/*.test.ts", "test/sealed/memory.test.ts"]
  },
  dataStore: {
    sources: ["src/dataStore"],
    tests: ["test/data-store.memory.test.ts", "test/data/{bodies,lift,moments,notes}.test.ts"]
  },
  eventStore: {
    sources: ["src/eventStore"],
    tests: ["test/event-store.memory.test.ts", "test/{relift,subscribers,subscription,upcasting}.test.ts"]
  },
  internal: {
    sources: ["src/internal"],
    tests: [
      "test/{cache,checkpoint,command,data,event,snapshot}-store.memory.test.ts",
      "test/{errors,json,options,pages,relift,subscribers,tagged-payload,telemetry,trace,upcasting,uuid}.test.ts",
      "test/pools/metrics.test.ts"
    ]
  },
  memory: {
    sources: ["src/memory"],
    tests: [
      "test/{cache,checkpoint,command,data,event,snapshot}-store.memory.test.ts",
      "test/memory-transactions.test.ts",
      "test/cache/{memory,moments}.test.ts",
      "test/data/{moments,notes}.test.ts"
    ]
  },
  projection: {
    sources: ["src/projection", "src/Projection.ts", "src/Reaction.ts", "src/CommandWorker.ts"],
    tests: ["test/{projection,reaction}.test.ts", "test/checkpoint-store.memory.test.ts"]
  },
  snapshotStore: {
    sources: ["src/snapshotStore"],
    tests: ["test/snapshot-store.memory.test.ts", "test/{background-saves,snapshot-outages}.test.ts"]
  }
}

/** What is no code of a room: ports and lists of exports, and what opens connections, for which servers are needed. */
const isLeftOut = (file: string): boolean =>
  /Encoded\.ts$|\/index\.ts$|^src\/internal\/(config|connectionOptions|socketFailures|tls)\.ts$/.test(file)

/** The files of a room that mutants are put into, in the same order on every machine. */
export const filesOf = ({ sources }: Room): ReadonlyArray<string> =>
  sources
    .flatMap((source) =>
      source.endsWith(".ts")
        ? [source]
        : fs.readdirSync(source, { recursive: true, encoding: "utf8" }).map((file) => path.posix.join(source, file))
    )
    .filter((file) => file.endsWith(".ts") && !isLeftOut(file))
    .sort()
