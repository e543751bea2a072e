/**
 * The key under which a definition of an aggregate carries what only this library uses.
 */

/**
 * @since 0.1.0
 * @category symbols
 */
export const TypeId = "~effect-stores/Aggregate"
