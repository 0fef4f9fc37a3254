/** The one kind of job that the demonstration runs, and the streams' settings that all its processes share. */
import { Job, Retry, StreamSettings } from "../../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { pipeline } from "node:stream/promises"
import { createGzip } from "node:zlib"
import type { Ledger } from "./ledger.ts"

/** The queue that the servers share. */
export const queue = "files"

/** Jobs that a server runs at once. */
export const concurrency = 8

/** Attempts of a job, the first included. */
export const attempts = 3

/** Time without a sign of life after which a server's jobs go to another. */
export const ackWaitMillis = 5_000

/** Short leases, so that nobody has to wait long; the usual 30 s are better in earnest. */
export const shortLeases: Layer.Layer<never> = Layer.succeed(StreamSettings, { ackWaitMillis })

/** The file can't be read. */
export class Unreadable extends Schema.TaggedError<Unreadable>()("Unreadable", {
  path: Schema.String,
  reason: Schema.String,
}) {
  override get message(): string {
    return `${this.path} can't be read: ${this.reason}`
  }
}

/** An attempt failed because it was asked to. */
export class Stumbled extends Schema.TaggedError<Stumbled>()("Stumbled", {
  attempt: Schema.Number,
}) {
  override get message(): string {
    return `attempt ${this.attempt} fails on purpose`
  }
}

/** Reads a file: its digest, its size, its size after gzip. */
export const Fingerprint = Job.make("demo/fingerprint", {
  payload: Schema.Struct({
    path: Schema.String,
    /** The job waits so long before it reads, as if the file came over a slow line. */
    pauseMillis: Schema.Number,
    /** So many first attempts fail on purpose. */
    stumbles: Schema.Number,
  }),
  success: Schema.Struct({
    sha256: Schema.String,
    bytes: Schema.Number,
    gzipped: Schema.Number,
  }),
  error: Schema.Union([Unreadable, Stumbled]),
  queue,
  retry: Retry.fixed({ attempts, delay: "500 millis" }),
})

const read = async (path: string, signal: AbortSignal) => {
  const hash = createHash("sha256")
  let bytes = 0
  let gzipped = 0
  await pipeline(
    createReadStream(path),
    async function* (chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) {
        hash.update(chunk)
        bytes += chunk.length
        yield chunk
      }
    },
    createGzip(),
    async (chunks: AsyncIterable<Uint8Array>) => {
      for await (const chunk of chunks) gzipped += chunk.length
    },
    { signal },
  )
  return { sha256: hash.digest("hex"), bytes, gzipped }
}

/** The handler. It writes each run to a ledger outside of NATS, when it begins and when it ends. */
export const fingerprintLive = (ledger: Ledger): Layer.Layer<Job.Handler<"demo/fingerprint">> =>
  Fingerprint.toLayer(Effect.fnUntraced(function* ({ path, pauseMillis, stumbles }) {
    const job = yield* Job.current
    const work = Effect.gen(function* () {
      yield* Effect.sleep(pauseMillis)
      if (job.attempt <= stumbles) return yield* new Stumbled({ attempt: job.attempt })
      return yield* Effect.tryPromise({
        try: (signal) => read(path, signal),
        catch: (cause) => new Unreadable({ path, reason: reasonOf(cause) }),
      })
    })
    ledger.began(job)
    return yield* Effect.onExit(work, (exit) => Effect.sync(() => ledger.ended(job, exit._tag)))
  }))

/** The system's word for what is wrong with a file. */
export const reasonOf = (cause: unknown): string =>
  cause instanceof Error ? (cause as { readonly code?: string }).code ?? cause.message : "unknown"
