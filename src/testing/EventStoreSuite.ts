/**
 * The contract of the EventStore as tests, for every backend: those of this package and a user's own. Each function
 * registers a suite with vitest, from a test file. Tests append under tenants of their own and clean up nothing; the
 * layer is built once per suite. Give it a database that nobody else uses: one test resets it.
 *
 * @since 0.1.0
 */
import type * as Layer from "effect/Layer"
import type { EventStore } from "../EventStore.js"
import { append } from "./eventStore/append.js"
import { appendAll } from "./eventStore/appendAll.js"
import * as BadInput from "./eventStore/badInput.js"
import { feed } from "./eventStore/feed.js"
import { idempotency } from "./eventStore/idempotency.js"
import { input } from "./eventStore/input.js"
import { maintenance, readOnly } from "./eventStore/maintenance.js"
import * as Model from "./eventStore/model.js"
import { pages } from "./eventStore/pages.js"
import { payloads } from "./eventStore/payloads.js"
import { queries } from "./eventStore/queries.js"
import { reads } from "./eventStore/reads.js"
import { subscribe } from "./eventStore/subscribe.js"
import { typed } from "./eventStore/typed.js"
import { port } from "./ports/eventStore.js"
import * as suites from "./suite.js"

export type { BadInputOptions, ModelOptions } from "./suite.js"

/**
 * @since 0.1.0
 * @category models
 */
export type ContractOptions = suites.ContractOptions<EventStore>

/**
 * The contract, point by point.
 *
 * @example
 * ```ts
 * import { EventStoreSuite } from "effect-stores/testing"
 * import { EventStoreMine } from "./EventStoreMine.js"
 *
 * const options = { url: "mine://localhost/test" }
 * EventStoreSuite.contract("EventStore on Mine", EventStoreMine.layer(options), {
 *   readOnly: EventStoreMine.layer({ ...options, readOnly: true })
 * })
 * EventStoreSuite.badInput("EventStore on Mine", EventStoreMine.layer(options))
 * EventStoreSuite.model("EventStore on Mine", EventStoreMine.layer(options))
 * ```
 *
 * @since 0.1.0
 * @category suites
 */
export const contract = <E>(name: string, layer: Layer.Layer<EventStore, E>, options: ContractOptions = {}): void =>
  suites.suite(`${name}: contract`, layer, options.timeoutMs ?? 900_000, (test) => {
    append(test)
    appendAll(test)
    idempotency(test)
    reads(test)
    feed(test)
    subscribe(test)
    pages(test)
    queries(test, { secrets: options.secrets ?? [] })
    payloads(test)
    input(test)
    typed(test)
    if (options.readOnly !== undefined) readOnly(test, options.readOnly)
    // Last, because it resets the store.
    maintenance(test)
    port(test)
  })

/**
 * Every operation, with hostile values in every place of its arguments: it fails with a documented typed error and
 * changes nothing, or it succeeds and what is read is what was put in. Never a defect, never a throw.
 *
 * @since 0.1.0
 * @category suites
 */
export const badInput = <E>(
  name: string,
  layer: Layer.Layer<EventStore, E>,
  options: suites.BadInputOptions = {}
): void => suites.badInputSuite(name, layer, options, BadInput.badInput)

/**
 * Random histories of operations on the backend and on the backend in memory: every answer must be the same, but for
 * the values of positions, whose order must be.
 *
 * @since 0.1.0
 * @category suites
 */
export const model = <E>(name: string, layer: Layer.Layer<EventStore, E>, options: suites.ModelOptions = {}): void =>
  suites.modelSuite(name, layer, options, Model.model)
