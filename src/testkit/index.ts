/**
 * For the tests of an application: decisions without a store, projections fed by hand, reactions and workers brought to
 * rest, stores in memory. Any test runner will do, and the time is that of the Clock.
 *
 * @since 0.1.0
 */
export * as AggregateTest from "./AggregateTest.js"
export * as Followers from "./Followers.js"
export * as ProjectionTest from "./ProjectionTest.js"
export * as TestStores from "./TestStores.js"
