/**
 * Sealing the stores that a layer gives: each is lifted again over its sealed port.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { CacheStore } from "../CacheStore.js"
import { CommandStore } from "../CommandStore.js"
import type { KeyCheckFailed } from "../CryptoError.js"
import * as CacheStoreEncoded from "../cacheStore/CacheStoreEncoded.js"
import * as CommandStoreEncoded from "../commandStore/CommandStoreEncoded.js"
import { DataStore } from "../DataStore.js"
import * as DataStoreEncoded from "../dataStore/DataStoreEncoded.js"
import { InvalidInput, type StoreFailure } from "../Errors.js"
import { EventStore } from "../EventStore.js"
import * as EventStoreEncoded from "../eventStore/EventStoreEncoded.js"
import { SnapshotStore } from "../SnapshotStore.js"
import * as SnapshotStoreEncoded from "../snapshotStore/SnapshotStoreEncoded.js"
import * as cacheStore from "./cacheStore.js"
import * as commandStore from "./commandStore.js"
import * as dataStore from "./dataStore.js"
import * as eventStore from "./eventStore.js"
import type { Cipher } from "./sealer.js"
import * as snapshotStore from "./snapshotStore.js"

export type SealError = InvalidInput | StoreFailure | KeyCheckFailed

type Sealing = (
  services: Context.Context<unknown>,
  cipher: Cipher
) => Effect.Effect<Context.Context<unknown>, SealError, Scope.Scope> | undefined

/** One for each store: undefined when the store is not there. */
const sealing = <I, S>(
  tag: Context.Tag<I, S>,
  seal: (service: S, cipher: Cipher) => Effect.Effect<S, SealError, Scope.Scope>
): Sealing => {
  return (services, cipher) => {
    const service = Context.getOption(services as Context.Context<I>, tag)
    return service._tag === "None"
      ? undefined
      : Effect.map(seal(service.value, cipher), (sealed) => Context.add(services, tag, sealed))
  }
}

const sealings: ReadonlyArray<Sealing> = [
  sealing(EventStore, (service, cipher) => EventStoreEncoded.relift(service, (port) => eventStore.seal(cipher, port))),
  sealing(CommandStore, (service, cipher) =>
    CommandStoreEncoded.relift(service, (port) => commandStore.seal(cipher, port))
  ),
  sealing(CacheStore, (service, cipher) => CacheStoreEncoded.relift(service, (port) => cacheStore.seal(cipher, port))),
  sealing(DataStore, (service, cipher) => DataStoreEncoded.relift(service, (port) => dataStore.seal(cipher, port))),
  sealing(SnapshotStore, (service, cipher) =>
    SnapshotStoreEncoded.relift(service, (port) => snapshotStore.seal(cipher, port))
  )
]

/** The same services, those of the stores sealed. Fails when there is none: nothing would be encrypted. */
export const sealAll = <A>(
  services: Context.Context<A>,
  cipher: Cipher
): Effect.Effect<Context.Context<A>, SealError, Scope.Scope> =>
  Effect.gen(function* () {
    let all = services as Context.Context<unknown>
    let count = 0
    for (const seal of sealings) {
      const sealed = seal(all, cipher)
      if (sealed === undefined) continue
      all = yield* sealed
      count++
    }
    if (count === 0)
      return yield* new InvalidInput({ what: "CryptoService.seal", why: "was given a layer that gives no store" })
    return all as Context.Context<A>
  })
