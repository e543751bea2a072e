/**
 * The requests of S3 that the DataStore makes, as functions: what goes into headers and queries, which status means
 * what, and what is repeated. Servers differ (Ceph's gateway answers 500 where S3 answers 404, Swift sends no XML with
 * some), so only what they agree in is relied upon: the status first, then the code, never a message.
 */
import * as Effect from "effect/Effect"
import {
  CommitOutcomeUnknown,
  type ReadFailure,
  StoreError,
  type StoreFailure,
  StoreUnavailable
} from "../../Errors.js"
import type { Download, NoAnswer, Request, S3Client, TextResponse } from "./client.js"
import { elements, escaped, textOf } from "./xml.js"

/** What a server answers when it did not do it now; of 500, 502 and 504 it may have been done all the same. */
const transient = new Set([408, 429, 500, 502, 503, 504, 520])

const backoffFirstMs = 100
const backoffMaxMs = 5_000

const abortsMax = 4

export const codeOf = ({ text }: TextResponse): string => textOf(text, "Code")

/** Of a request whose body did not come in time, so that nothing was done: S3 answers it with 400. */
const isTimeout = (response: TextResponse): boolean => response.status === 400 && codeOf(response) === "RequestTimeout"

const isTransient = (response: TextResponse): boolean => transient.has(response.status) || isTimeout(response)

const refusal = (operation: string, response: TextResponse, code: string): ReadFailure => {
  const { status } = response
  const cause = new Error(`the server answered ${status}${code === "" ? "" : ` ${code}`}`)
  // 200 with an error in its text is sent by a server that began to answer before it was done.
  return isTransient(response) || status === 409 || status === 200
    ? new StoreUnavailable({ operation, retryable: true, cause })
    : new StoreError({ operation, cause })
}

const silence = (operation: string, { cause, lasting }: NoAnswer): ReadFailure =>
  lasting ? new StoreError({ operation, cause }) : new StoreUnavailable({ operation, retryable: true, cause })

export interface Page {
  readonly objects: ReadonlyArray<{
    readonly name: string
    readonly size: number
    readonly etag: string
    readonly modifiedAt: number
  }>
  readonly prefixes: ReadonlyArray<string>
  readonly isTruncated: boolean
}

/** What became of a write. `Lost`: nobody can tell yet. */
export type Sent = { readonly _tag: "Done"; readonly etag: string } | { readonly _tag: "Refused" | "NoBucket" }

export const unquoted = (etag: string | undefined): string => (etag ?? "").replace(/^"(.*)"$/, "$1")

const entityOf = (text: string, isEscaped: boolean): string =>
  isEscaped ? decodeURIComponent(text.replaceAll("+", " ")) : text

export const make = (client: S3Client, maxRetries: number) => {
  const pause = (tries: number) => {
    const ms = Math.min(backoffMaxMs, backoffFirstMs * 2 ** tries)
    return Effect.sleep(ms * (0.5 + Math.random() / 2))
  }

  /** For what may be done twice: repeated while the server is silent or cannot do it now. */
  const send = (operation: string, request: Request, tries = 0): Effect.Effect<TextResponse, ReadFailure> =>
    Effect.matchEffect(client.send(request), {
      onFailure: (lost) =>
        tries < maxRetries && !lost.lasting ? again(operation, request, tries) : Effect.fail(silence(operation, lost)),
      onSuccess: (response) =>
        !isTransient(response)
          ? Effect.succeed(response)
          : tries < maxRetries
            ? again(operation, request, tries)
            : Effect.fail(refusal(operation, response, codeOf(response)))
    })

  const again = (operation: string, request: Request, tries: number) =>
    Effect.zipRight(pause(tries), send(operation, request, tries + 1))

  const expect = (operation: string, response: TextResponse, ...ok: ReadonlyArray<number>) =>
    ok.includes(response.status)
      ? Effect.succeed(response)
      : Effect.fail(refusal(operation, response, codeOf(response)))

  /**
   * For a write whose effect can be looked for. What the server may have done without our knowing is looked for by
   * `isDone`, before the next try and after the last.
   */
  const sendOnce = (
    operation: string,
    request: Request,
    isDone: Effect.Effect<string | undefined, StoreFailure>,
    answer: (response: TextResponse) => Sent | undefined,
    tries = 0,
    isDoubtful = false
  ): Effect.Effect<Sent, StoreFailure> => {
    const retry = (doubt: boolean, failure: StoreFailure) =>
      Effect.flatMap(
        doubt || isDoubtful
          ? // When it cannot even be looked, nobody knows.
            Effect.mapError(isDone, ({ message }) => unknown(operation, new Error(message)))
          : Effect.succeed(undefined),
        (etag): Effect.Effect<Sent, StoreFailure> => {
          if (etag !== undefined) return Effect.succeed({ _tag: "Done", etag })
          if (tries >= maxRetries) return Effect.fail(failure)
          const next = sendOnce(operation, request, isDone, answer, tries + 1, doubt || isDoubtful)
          return Effect.zipRight(pause(tries), next)
        }
      )
    return Effect.matchEffect(client.send(request), {
      onFailure: (lost) =>
        lost.lasting && !isDoubtful
          ? Effect.fail(silence(operation, lost))
          : retry(lost.sent, lost.sent ? unknown(operation, lost.cause) : silence(operation, lost)),
      onSuccess: (response) => {
        const sent = answer(response)
        // Refused, after a try of which nothing is known: it may have been refused for what that one did.
        if (sent !== undefined && (sent._tag === "Done" || !isDoubtful)) return Effect.succeed(sent)
        if (sent !== undefined) {
          return Effect.map(isDone, (etag): Sent => (etag === undefined ? sent : { _tag: "Done", etag }))
        }
        const failure = refusal(operation, response, codeOf(response))
        return failure._tag === "StoreUnavailable"
          ? retry(response.status !== 503 && response.status !== 429 && !isTimeout(response), failure)
          : isDoubtful
            ? retry(true, failure)
            : Effect.fail(failure)
      }
    })
  }

  const written = (response: TextResponse): Sent | undefined => {
    if (response.status === 412) return { _tag: "Refused" }
    if (response.status === 404) return codeOf(response) === "NoSuchBucket" ? { _tag: "NoBucket" } : undefined
    if (response.status !== 200) return undefined
    // 200 is sent before the work is done, and what comes of it is in the text.
    if (response.text.includes("<Error>")) return undefined
    return { _tag: "Done", etag: unquoted(response.headers.etag ?? textOf(response.text, "ETag")) }
  }

  const partEtag = (operation: string, response: TextResponse) =>
    Effect.flatMap(expect(operation, response, 200), ({ headers, text }) => {
      const etag = unquoted(headers.etag ?? textOf(text, "ETag"))
      return etag === "" ? Effect.fail(refusal(operation, response, "without an ETag")) : Effect.succeed(etag)
    })

  const head = (operation: string, bucket: string, name: string) =>
    Effect.flatMap(send(operation, { method: "HEAD", bucket, name }), (response) =>
      response.status === 404
        ? Effect.succeed(undefined)
        : Effect.map(expect(operation, response, 200), ({ headers }) => headers)
    )

  return {
    head,

    get: (operation: string, bucket: string, name: string) =>
      Effect.flatMap(send(operation, { method: "GET", bucket, name }), (response) =>
        response.status === 404
          ? Effect.succeed(undefined)
          : Effect.map(expect(operation, response, 200), ({ text }) => text)
      ),

    /** One try, for who resumes. */
    download: (bucket: string, name: string, etag: string, from: number, to: number) =>
      client.download({
        method: "GET",
        bucket,
        name,
        headers: { range: `bytes=${from}-${to - 1}`, "if-match": `"${etag}"` }
      }),

    put: (
      operation: string,
      bucket: string,
      name: string,
      body: Uint8Array,
      headers: Readonly<Record<string, string>>,
      isDone: Effect.Effect<string | undefined, StoreFailure>
    ) => sendOnce(operation, { method: "PUT", bucket, name, headers, body }, isDone, written),

    /** What may be written twice, and has no condition. */
    putPlain: (operation: string, bucket: string, name: string, body: Uint8Array) =>
      Effect.flatMap(send(operation, { method: "PUT", bucket, name, body }), (response) =>
        response.status === 404 ? Effect.succeed(false) : Effect.as(expect(operation, response, 200), true)
      ),

    copy: (
      bucket: string,
      name: string,
      headers: Readonly<Record<string, string>>,
      isDone: Effect.Effect<string | undefined, StoreFailure>
    ) =>
      sendOnce("copy", { method: "PUT", bucket, name, headers }, isDone, (response) =>
        response.status === 404 && codeOf(response) === "NoSuchKey"
          ? { _tag: "Refused" }
          : response.status === 200 && !response.text.includes("<Error>")
            ? { _tag: "Done", etag: unquoted(textOf(response.text, "ETag")) }
            : written(response)
      ),

    remove: (operation: string, bucket: string, name: string) =>
      Effect.flatMap(send(operation, { method: "DELETE", bucket, name }), (response) =>
        response.status === 404 && codeOf(response) === "NoSuchBucket"
          ? Effect.succeed(false)
          : Effect.as(expect(operation, response, 200, 204, 404), true)
      ),

    createUpload: (operation: string, bucket: string, name: string, headers: Readonly<Record<string, string>>) =>
      Effect.flatMap(
        // Twice is one upload too many, which only costs room until a lifecycle rule of the bucket takes it.
        send(operation, { method: "POST", bucket, name, query: { uploads: null }, headers }),
        (response) =>
          response.status === 404
            ? Effect.succeed(undefined)
            : Effect.map(expect(operation, response, 200), ({ text }) => textOf(text, "UploadId"))
      ),

    uploadPart: (operation: string, bucket: string, name: string, uploadId: string, part: number, body: Uint8Array) =>
      Effect.flatMap(
        send(operation, { method: "PUT", bucket, name, query: { partNumber: `${part}`, uploadId }, body }),
        (response) => partEtag(operation, response)
      ),

    /** Undefined when the source is not there, or its condition did not hold. */
    copyPart: (
      bucket: string,
      name: string,
      uploadId: string,
      part: number,
      headers: Readonly<Record<string, string>>
    ): Effect.Effect<string | undefined, StoreFailure> =>
      Effect.flatMap(
        send("copy", { method: "PUT", bucket, name, query: { partNumber: `${part}`, uploadId }, headers }),
        (response) =>
          response.status === 412 || (response.status === 404 && codeOf(response) === "NoSuchKey")
            ? Effect.succeed(undefined)
            : partEtag("copy", response)
      ),

    complete: (
      operation: string,
      bucket: string,
      name: string,
      uploadId: string,
      etags: ReadonlyArray<string>,
      isDone: Effect.Effect<string | undefined, StoreFailure>
    ) => {
      const parts = etags.map(
        (etag, i) => `<Part><PartNumber>${i + 1}</PartNumber><ETag>"${escaped(etag)}"</ETag></Part>`
      )
      const body = Buffer.from(`<CompleteMultipartUpload>${parts.join("")}</CompleteMultipartUpload>`)
      const request: Request = { method: "POST", bucket, name, query: { uploadId }, body }
      return sendOnce(operation, request, isDone, (response) =>
        response.status === 200 && !response.text.includes("<Error>")
          ? { _tag: "Done", etag: unquoted(textOf(response.text, "ETag")) }
          : written(response)
      )
    },

    /**
     * Whether the upload is gone for certain. A part that was on its way may be taken after the abort, and keeps the
     * upload: so it is aborted until the server does not know it.
     */
    abortUpload: (
      operation: string,
      bucket: string,
      name: string,
      uploadId: string
    ): Effect.Effect<boolean, StoreFailure> => {
      const abort = (tries: number): Effect.Effect<boolean, StoreFailure> =>
        Effect.flatMap(send(operation, { method: "DELETE", bucket, name, query: { uploadId } }), (response) =>
          response.status === 404
            ? Effect.succeed(true)
            : Effect.flatMap(expect(operation, response, 200, 204), () =>
                tries === 0 ? Effect.succeed(false) : Effect.zipRight(pause(0), abort(tries - 1))
              )
        )
      return abort(abortsMax)
    },

    list: (bucket: string, prefix: string, delimiter: string, marker: string, maxKeys: number) =>
      Effect.flatMap(
        send("list", {
          method: "GET",
          bucket,
          query: { "encoding-type": "url", prefix, delimiter, marker, "max-keys": `${maxKeys}` }
        }),
        (response): Effect.Effect<Page | undefined, ReadFailure> =>
          response.status === 404
            ? Effect.succeed(undefined)
            : Effect.flatMap(expect("list", response, 200), ({ text }) =>
                Effect.try({
                  try: () => pageOf(text),
                  catch: (cause) => new StoreError({ operation: "list", cause })
                })
              )
      ),

    createBucket: (bucket: string, region: string, objectLocking: boolean) =>
      Effect.flatMap(
        send("buckets.create", {
          method: "PUT",
          bucket,
          headers: objectLocking ? { "x-amz-bucket-object-lock-enabled": "true" } : {},
          ...(region === ""
            ? {}
            : {
                body: Buffer.from(
                  `<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` +
                    `<LocationConstraint>${escaped(region)}</LocationConstraint></CreateBucketConfiguration>`
                )
              })
        }),
        (response) =>
          response.status === 409 && /^BucketAlready/.test(codeOf(response))
            ? Effect.succeed(false)
            : Effect.as(expect("buckets.create", response, 200), true)
      ),

    setPolicy: (bucket: string, policy: unknown) =>
      Effect.flatMap(
        send("buckets.create", {
          method: "PUT",
          bucket,
          query: { policy: null },
          body: Buffer.from(JSON.stringify(policy))
        }),
        (response) => expect("buckets.create", response, 200, 204)
      ),

    /** Whether objects of the bucket can be locked. */
    lockOf: (bucket: string) =>
      Effect.map(send("probe", { method: "GET", bucket, query: { "object-lock": null } }), ({ status, text }) =>
        status === 200 ? textOf(text, "ObjectLockEnabled") === "Enabled" : false
      ),

    /** Undefined when it is not empty. */
    deleteBucket: (bucket: string) =>
      Effect.flatMap(send("buckets.delete", { method: "DELETE", bucket }), (response) =>
        response.status === 409
          ? Effect.succeed(undefined)
          : response.status === 404
            ? Effect.succeed(false)
            : Effect.as(expect("buckets.delete", response, 200, 204), true)
      ),

    bucketExists: (bucket: string) =>
      Effect.flatMap(send("buckets.exists", { method: "HEAD", bucket }), (response) =>
        response.status === 404 ? Effect.succeed(false) : Effect.as(expect("buckets.exists", response, 200), true)
      ),

    /** A sign of life, not repeated. */
    ask: Effect.matchEffect(client.send({ method: "HEAD" }), {
      onFailure: (lost) => Effect.fail(silence("health", lost)),
      onSuccess: (response): Effect.Effect<"up" | "busy", ReadFailure> =>
        response.status === 503 || response.status === 429
          ? Effect.succeed("busy")
          : transient.has(response.status)
            ? Effect.fail(refusal("health", response, codeOf(response)))
            : Effect.succeed("up")
    }),

    buckets: Effect.flatMap(send("buckets.list", { method: "GET" }), (response) =>
      Effect.map(expect("buckets.list", response, 200), ({ text }) =>
        elements(text, "Bucket").map((each) => ({
          name: textOf(each, "Name"),
          createdAt: Date.parse(textOf(each, "CreationDate"))
        }))
      )
    ),

    presign: (method: "get" | "put", bucket: string, name: string, seconds: number, endpoint: URL) =>
      Effect.mapError(
        client.presign(method === "get" ? "GET" : "PUT", bucket, name, seconds, endpoint),
        ({ cause }) => new StoreError({ operation: `presign.${method}`, cause })
      ),

    pause
  }
}

export type S3 = ReturnType<typeof make>

const pageOf = (text: string): Page => {
  const isEscaped = textOf(text, "EncodingType") === "url"
  return {
    objects: elements(text, "Contents").map((each) => ({
      name: entityOf(textOf(each, "Key"), isEscaped),
      size: Number(textOf(each, "Size")),
      etag: unquoted(textOf(each, "ETag")),
      modifiedAt: Date.parse(textOf(each, "LastModified"))
    })),
    prefixes: elements(text, "CommonPrefixes").map((each) => entityOf(textOf(each, "Prefix"), isEscaped)),
    isTruncated: textOf(text, "IsTruncated") === "true"
  }
}

const unknown = (operation: string, cause: Error): CommitOutcomeUnknown =>
  new CommitOutcomeUnknown({ operation, cause })

/** Whether a download has what was asked for, from its first byte on. */
export const isRange = ({ headers, status }: Download, from: number, to: number, size: number): boolean => {
  if (status === 200) return from === 0 && to === size
  return status === 206 && headers["content-range"] === `bytes ${from}-${to - 1}/${size}`
}
