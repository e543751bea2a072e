/**
 * Imports a package that is installed in this folder: a module finds the packages beside it.
 */
export const load = (specifier: string): Promise<object> => import(specifier)
