/** How streams do at this moment, by what their leaders say. */
import * as Effect from "effect/Effect"
import { type StreamInfo, streamInfo } from "./DurabilityFacts.ts"
import { Code, type NatsError } from "./errors.ts"
import type { Nats } from "./Nats.ts"

/**
 * - `good`: it answers, and hears of all its copies.
 * - `degraded`: some copies are missing, but a majority is there.
 * - `withoutQuorum`: no leader, or one that hears of too few copies: nothing can be written.
 * - `lost`: it doesn't exist.
 * - `silent`: no answer in time, or one that says nothing about it.
 */
export type StreamState = "good" | "degraded" | "withoutQuorum" | "lost" | "silent"

/** One stream. */
export interface StreamHealth {
  readonly stream: string
  readonly state: StreamState
  /** Which copies are missing, or why there is no answer; else empty. */
  readonly detail: string
}

/**
 * Nanoseconds without a sign of life after which a copy counts as missing. They come each second. The
 * server itself takes about ten to say so, and a leader without a majority answers for longer.
 */
const silentNanos = 5e9

/** What a stream's information says. Pure. */
export const judge = (
  stream: string,
  { cluster }: Pick<StreamInfo, "cluster" | "config">,
): StreamHealth => {
  const { leader, replicas = [] } = cluster ?? {}
  if (cluster !== undefined && !leader) {
    return { stream, state: "withoutQuorum", detail: "it has no leader" }
  }
  const missing = replicas.filter(({ active, current, offline }) =>
    !current || offline === true || active > silentNanos
  ).map(({ name }) => name)
  const copies = replicas.length + 1
  const state = missing.length === 0
    ? "good"
    : (copies - missing.length) * 2 > copies
    ? "degraded"
    : "withoutQuorum"
  return { stream, state, detail: missing.join(", ") }
}

const unanswered = (stream: string, error: NatsError): StreamHealth => ({
  stream,
  state: error._tag === "Rejected" && error.code === Code.streamNotFound ? "lost" : "silent",
  detail: error._tag === "Rejected" ? error.description : "",
})

/** Looks at streams, all at once; each has so long to answer. */
export const check = (
  { connection }: Nats,
  streams: ReadonlyArray<string>,
  withinMillis: number,
): Effect.Effect<ReadonlyArray<StreamHealth>> =>
  Effect.forEach(
    streams,
    (stream) =>
      Effect.match(streamInfo(connection, stream, withinMillis), {
        onFailure: (error) => unanswered(stream, error),
        onSuccess: (info) => judge(stream, info),
      }),
    { concurrency: "unbounded" },
  )
