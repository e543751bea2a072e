/**
 * The DataStore on any S3 API, through the client called minio: MinIO, Ceph's gateway, Swift, SeaweedFS, AWS and
 * others.
 *
 * What a server can do beyond plain puts and gets is never guessed from its name: say it in `capabilities`, and let
 * `probe` find it out.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { DataStore } from "../DataStore.js"
import * as Encoded from "../dataStore/DataStoreEncoded.js"
import type { InvalidInput, StoreFailure } from "../Errors.js"
import * as Health from "../Health.js"
import * as variables from "../internal/config.js"
import { type Keys, onlyKnown, part } from "../internal/storeOptions.js"
import { type NodeTlsOptions, type TlsOptions, tlsOptions, tlsVariables } from "../internal/tls.js"
import { checked, describe, fields, givenKeys, integer, judged, oneOf, Parts, refuse } from "../internal/validate.js"
import * as Pool from "../Pool.js"
import * as client from "./dataStore/client.js"
import { partsMax, type Settings } from "./dataStore/objects.js"
import * as port from "./dataStore/port.js"
import * as probing from "./dataStore/probe.js"
import * as s3 from "./dataStore/s3.js"

export type { TlsOptions } from "../internal/tls.js"

/**
 * What this server does, in one atomic step, beyond what all do. Default of each: it does not.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerCapabilities {
  /** `PUT` with `If-None-Match: *`, for bodies of up to one part. */
  readonly putIfAbsent?: boolean | undefined
  /** `PUT` with `If-Match`, and whether the etag in it must have its quotes (Ceph's gateway: without). */
  readonly putIfMatch?: "quoted" | "unquoted" | undefined
  /** Buckets in a region of their own. */
  readonly region?: boolean | undefined
  /** Policies of buckets, which a public bucket needs. */
  readonly public?: boolean | undefined
  readonly objectLocking?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ServerOptions {
  /** `http://host:port` or `https://host`, without a path. */
  readonly endpoint: string
  readonly accessKey: string
  readonly secretKey: Redacted.Redacted
  readonly sessionToken?: Redacted.Redacted | undefined
  /**
   * Whom to trust, and who one is, at an `https://` endpoint. The certificate is always verified, whatever the
   * environment says, unless `rejectUnauthorized` is false.
   */
  readonly tls?: TlsOptions | undefined
  /** Default `us-east-1`. */
  readonly region?: string | undefined
  /** The bucket in the path of a URL, and not in its host. Default true. */
  readonly pathStyle?: boolean | undefined
  /** What presigned URLs begin with, where users reach the server by another address than the application. */
  readonly publicEndpoint?: string | undefined
  /**
   * What the names of buckets begin with on the server: `[a-z0-9-]`, up to 40 characters. A store sees no others, and
   * its reset touches none. Default: none.
   */
  readonly bucketPrefix?: string | undefined
  /**
   * Bytes of the parts in which larger bodies are sent; two of them are in memory for each put under way. An object has
   * at most 10,000 parts. 5 MiB to 1 GiB; default 8 MiB.
   */
  readonly partBytes?: number | undefined
  /** Larger objects are copied in parts of this size. Default, and at most, 5 GiB. */
  readonly copyBytes?: number | undefined
  /** How long the server may say nothing before a request has failed. Default 30 seconds. */
  readonly timeout?: Duration.DurationInput | undefined
  /** How often a request that may pass is sent again, with growing pauses. Default 4. */
  readonly maxRetries?: number | undefined
  readonly pool?: Pool.HttpPoolOptions | undefined
  readonly capabilities?: ServerCapabilities | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends ServerOptions {
  /** Refuse all writes with `ReadOnly`. Default false. */
  readonly readOnly?: boolean | undefined
}

const capabilityKeys: Keys<ServerCapabilities> = {
  putIfAbsent: true,
  putIfMatch: true,
  region: true,
  public: true,
  objectLocking: true
}

const serverKeys: Keys<ServerOptions> = {
  endpoint: true,
  accessKey: true,
  secretKey: true,
  sessionToken: true,
  tls: true,
  region: true,
  pathStyle: true,
  publicEndpoint: true,
  bucketPrefix: true,
  partBytes: true,
  copyBytes: true,
  timeout: true,
  maxRetries: true,
  pool: true,
  capabilities: true
}

const optionKeys: Keys<Options> = { ...serverKeys, readOnly: true }

const MiB = 2 ** 20
const GiB = 2 ** 30

const text = (value: unknown, what: string): string =>
  typeof value === "string" && /^[!-~]+$/.test(value) ? value : refuse(what, "must be visible ASCII")

// Never with the value in the error: it is one.
const secret = (value: unknown, what: string): string => {
  const found = Redacted.isRedacted(value) ? Redacted.value(value) : undefined
  return typeof found === "string" && found !== "" ? found : refuse(what, "must be redacted text that is not empty")
}

const endpointOf = (value: unknown, what: string): URL => {
  // Never with the value in the error: where it is malformed a part of it may be a secret.
  if (typeof value !== "string" || !URL.canParse(value)) return refuse(what, "must be a URL: http://host:port")
  const url = new URL(value)
  if (!["http:", "https:"].includes(url.protocol)) return refuse(what, "must begin with http:// or https://")
  if (url.username !== "" || url.password !== "")
    return refuse(what, "must have no user: keys are options of their own")
  return url.pathname === "/" && url.search === "" && url.hash === ""
    ? url
    : refuse(what, "must have no path and no parameters")
}

/** The files of a certificate are looked at even if nothing is known of the endpoint. */
const tlsOf = (value: unknown, endpoint: () => URL): NodeTlsOptions | undefined => {
  const protocol = judged(() => endpoint().protocol)
  if (protocol === "http:") {
    const given = typeof value === "object" && value !== null ? givenKeys(value).map((key) => `tls.${key}`) : []
    const { all, part } = new Parts()
    for (const what of value === undefined ? [] : given.length > 0 ? given : ["tls"]) {
      part(() => refuse(what, "is for an endpoint that begins with https://"))
    }
    return all(() => undefined)
  }
  return tlsOptions(value ?? true, "tls") ?? refuse("tls", "must not be false: use http://")
}

const flag = (value: unknown, what: string): boolean =>
  typeof value === "boolean" ? value : refuse(what, `must be true or false, not ${describe(value)}`)

const prefixOf = (value: unknown, what: string): string =>
  typeof value === "string" && /^[a-z0-9][a-z0-9-]{0,39}$/.test(value)
    ? value
    : refuse(what, `must match [a-z0-9][a-z0-9-]{0,39}, not ${describe(value)}`)

const optional = <A>(value: unknown, otherwise: A, check: (value: unknown) => A): A =>
  value === undefined ? otherwise : check(value)

const responseMs = (value: unknown, what: string): number => {
  const decoded = Duration.decodeUnknown(value)
  const ms = decoded._tag === "Some" ? Duration.toMillis(decoded.value) : Number.NaN
  return ms >= 1 && ms < 2 ** 31 ? Math.round(ms) : refuse(what, `must be from 1 ms to 24 days, not ${describe(value)}`)
}

const settingsOf = (options: ServerOptions, pool: Pool.HttpLimits) => {
  const { all, part } = new Parts()
  /** An option that may be absent. */
  const opt = <K extends keyof ServerOptions, A>(
    option: K,
    otherwise: A,
    check: (value: unknown, what: string) => A
  ): (() => A) => part(() => optional(options[option], otherwise, (value) => check(value, option)))
  const endpoint = part(() => endpointOf(options.endpoint, "endpoint"))
  const accessKey = part(() => text(options.accessKey, "accessKey"))
  const secretKey = part(() => secret(options.secretKey, "secretKey"))
  const sessionToken = opt("sessionToken", undefined, secret)
  const tls = part(() => tlsOf(options.tls, endpoint))
  const region = opt("region", "us-east-1", text)
  const pathStyle = opt("pathStyle", true, flag)
  const timeoutMs = opt("timeout", 30_000, responseMs)
  const bucketPrefix = opt("bucketPrefix", "", prefixOf)
  const partBytes = opt("partBytes", 8 * MiB, (value, what) => integer(value, what, 5 * MiB, GiB))
  const copyBytes = opt("copyBytes", 5 * GiB, (value, what) => integer(value, what, 5 * MiB, 5 * GiB))
  const maxRetries = opt("maxRetries", 4, (value, what) => integer(value, what, 0, 20))
  const publicEndpoint = part(() =>
    options.publicEndpoint === undefined ? endpoint() : endpointOf(options.publicEndpoint, "publicEndpoint")
  )
  const given = part(() => fields(options.capabilities ?? {}, "capabilities", Object.keys(capabilityKeys)))
  const ifMatch = part(() =>
    optional(given().putIfMatch, undefined, (value) => oneOf(value, "capabilities.putIfMatch", ["quoted", "unquoted"]))
  )
  const able = (capability: "putIfAbsent" | "region" | "public" | "objectLocking") =>
    part(() => optional(given()[capability], false, (value) => flag(value, `capabilities.${capability}`)))
  const can = {
    putIfAbsent: able("putIfAbsent"),
    region: able("region"),
    public: able("public"),
    objectLocking: able("objectLocking")
  }
  return all(() => {
    const clientSettings: client.Settings = {
      endpoint: endpoint(),
      accessKey: accessKey(),
      secretKey: secretKey(),
      sessionToken: sessionToken(),
      tls: tls(),
      region: region(),
      pathStyle: pathStyle(),
      timeoutMs: timeoutMs(),
      // There is one host only.
      maxFreeSockets: Math.min(pool.maxIdleConns, pool.maxIdleConnsPerHost),
      idleMs: pool.idleConnTimeoutMs
    }
    const portSettings: Settings = {
      connection: `${endpoint().origin}/${bucketPrefix()}`,
      bucketPrefix: bucketPrefix(),
      partBytes: partBytes(),
      copyBytes: copyBytes(),
      maxRetries: maxRetries(),
      publicEndpoint: publicEndpoint(),
      region: region(),
      ifMatch: ifMatch(),
      capabilities: {
        putIfAbsent: can.putIfAbsent(),
        putIfMatch: ifMatch() !== undefined,
        // Ignored, or no atomic step, on the servers that were tried.
        copyIfAbsent: false,
        deleteIfMatch: false,
        presign: true,
        region: can.region(),
        public: can.public(),
        objectLocking: can.objectLocking(),
        bucketLengthMax: 63 - bucketPrefix().length,
        sizeMax: Math.min(partsMax * partBytes(), 5 * 2 ** 40),
        conditionalSizeMax: partBytes()
      }
    }
    return { client: clientSettings, port: portSettings }
  })
}

const opened = (options: ServerOptions) =>
  Effect.gen(function* () {
    const known = yield* onlyKnown(options, serverKeys)
    const pool = yield* Pool.httpLimits(known.pool, Pool.defaults.dataStore.minio)
    const settings = yield* checked(() => settingsOf(known, pool), Effect.succeed)
    const connection = yield* client.make(settings.client)
    return { settings, s3: s3.make(connection, settings.port.maxRetries) }
  })

/**
 * The port on a server: for layers that wrap it. Nothing is sent before it is used.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeEncoded = (options: ServerOptions): Effect.Effect<Encoded.Encoded, InvalidInput, Scope.Scope> =>
  Effect.map(opened(options), ({ s3, settings }) => port.make(s3, settings.port))

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<DataStore, InvalidInput> =>
  Layer.scoped(
    DataStore,
    Effect.gen(function* () {
      const { readOnly } = yield* onlyKnown(options, optionKeys)
      const encoded = yield* makeEncoded(part<ServerOptions>(options, serverKeys))
      return Encoded.make(encoded, { system: "aws.s3", readOnly })
    })
  )

/**
 * The same from Config. `config` reads all options.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { DataStoreMinio } from "effect-stores/minio"
 *
 * // OBJECTS_ENDPOINT=http://localhost:9000 OBJECTS_ACCESS_KEY=... OBJECTS_SECRET_KEY=...
 * const layer = DataStoreMinio.layerConfig(Config.nested(DataStoreMinio.config, "OBJECTS"))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (config: Config.Config.Wrap<Options>): Layer.Layer<DataStore, InvalidInput | ConfigError> =>
  Layer.unwrapEffect(Effect.map(variables.read(config), layer))

/**
 * What a server was found to do: give it as `capabilities`. `why` says of each that it does not do what it answered.
 *
 * @since 0.1.0
 * @category models
 */
export interface Probe {
  readonly capabilities: ServerCapabilities
  readonly why: Readonly<Partial<Record<keyof ServerCapabilities, string>>>
}

/**
 * Finds out what a server does, with a bucket of its own that is gone afterwards: each condition is tried on an object
 * that is there and raced for by several. For an operator and for tests, not for the start of an application: a race
 * that came out well proves nothing on a server that only sometimes lets two win.
 *
 * @since 0.1.0
 * @category constructors
 */
export const probe = (options: ServerOptions): Effect.Effect<Probe, InvalidInput | StoreFailure> =>
  Effect.scoped(
    Effect.flatMap(opened(options), ({ s3, settings }) =>
      probing.probe(s3, settings.port.bucketPrefix, settings.client.endpoint)
    )
  )

/**
 * Whether a server responds, known within 2 seconds, on a connection of its own. One that refuses what the keys may not
 * do is `up`; one that asks for fewer requests (503 or 429) is `busy`.
 *
 * @since 0.1.0
 * @category getters
 */
export const health = (options: Options): Effect.Effect<Health.Health, InvalidInput> =>
  Effect.scoped(
    onlyKnown(options, optionKeys).pipe(
      Effect.flatMap((known) => opened(part<ServerOptions>(known, serverKeys))),
      Effect.flatMap(({ s3 }) => Health.make(s3.ask))
    )
  )

/**
 * Options from the variables `ENDPOINT`, `ACCESS_KEY` and `SECRET_KEY`, which must be given, `SESSION_TOKEN`, `REGION`,
 * `PATH_STYLE`, `PUBLIC_ENDPOINT`, `BUCKET_PREFIX`, `PART_BYTES`, `COPY_BYTES`, `TIMEOUT` (a duration), `MAX_RETRIES`,
 * `READ_ONLY`, `TLS_CA_FILE`, `TLS_CERT_FILE` and `TLS_KEY_FILE` (names of files in PEM), `TLS_PASSPHRASE`,
 * `TLS_SERVERNAME`, those of `Pool.httpConfig` nested as `POOL`, and `PUT_IF_ABSENT`, `PUT_IF_MATCH`, `REGION`,
 * `PUBLIC` and `OBJECT_LOCKING` nested as `CAPABILITIES`.
 *
 * @since 0.1.0
 * @category config
 */
export const config: Config.Config<Options> = variables.checkedOptions(
  {
    endpoint: variables.text,
    accessKey: variables.text,
    secretKey: variables.secret,
    sessionToken: variables.secret,
    region: variables.text,
    pathStyle: variables.flag,
    publicEndpoint: variables.text,
    bucketPrefix: variables.text,
    partBytes: variables.integer,
    copyBytes: variables.integer,
    timeout: variables.duration(),
    maxRetries: variables.integer,
    readOnly: variables.flag,
    tls: tlsVariables,
    pool: variables.nested(Pool.httpConfig),
    capabilities: variables.nested(
      variables.options({
        putIfAbsent: variables.flag,
        putIfMatch: variables.oneOf(["quoted", "unquoted"]),
        region: variables.flag,
        public: variables.flag,
        objectLocking: variables.flag
      })
    )
  },
  "endpoint",
  "accessKey",
  "secretKey"
)((options) => settingsOf(options, Pool.defaults.dataStore.minio))
