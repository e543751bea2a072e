/**
 * All five stores as one layer, chosen by Config. Drivers are loaded when they are chosen.
 *
 * @since 0.1.0
 */
export * as Stores from "./Stores.js"
export * as StoresTest from "./StoresTest.js"
