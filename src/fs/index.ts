/**
 * The backend on the file system.
 *
 * @since 0.1.0
 */
export * as DataStoreFileSystem from "./DataStoreFileSystem.js"
