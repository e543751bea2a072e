/**
 * The backend on S3 APIs.
 *
 * @since 0.1.0
 */
export * as DataStoreMinio from "./DataStoreMinio.js"
