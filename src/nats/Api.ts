/**
 * The JetStream API as JSON requests. Small on purpose: the engine needs a dozen verbs of it and
 * none of the client library's abstractions over them.
 */
import * as Effect from "effect/Effect"
import type { Msg, NatsConnection } from "nats"
import { type NatsError, Rejected, Unavailable } from "./errors.ts"
import * as Violations from "./Violations.ts"

/** How long a request to the JetStream API may take before it counts as unanswered. */
export const requestTimeoutMillis = 5_000

const encoder = new TextEncoder()
const noBytes = new Uint8Array(0)

/**
 * Sends one request and gives the answering message. Fails with `Unavailable` without an answer, and
 * with `Rejected` when this user may not send it.
 */
export const request = (
  connection: NatsConnection,
  subject: string,
  payload: Uint8Array | string,
  operation: string,
  timeoutMillis: number = requestTimeoutMillis,
): Effect.Effect<Msg, NatsError> =>
  Effect.tryPromise({
    try: () => connection.request(subject, payload, { timeout: timeoutMillis }),
    catch: (cause) => failureOf(operation, cause),
  })

/** What a request failed with that the client library rejected. */
export const failureOf = (operation: string, cause: unknown): NatsError => {
  const violation = Violations.violationIn(cause)
  return violation === undefined
    ? new Unavailable({ operation, cause })
    : Violations.refusal(operation, violation)
}

/** What every answer of the JetStream API may hold instead of what was asked for. */
export interface ApiReply {
  readonly error?: {
    readonly code: number
    readonly err_code?: number
    readonly description: string
  }
}

/**
 * Calls `$JS.API.<verb>` with a JSON body and gives the decoded answer.
 *
 * Fails with `Rejected` when the server answered an error, `Unavailable` when it did not answer.
 */
export const call = <A>(
  connection: NatsConnection,
  verb: string,
  body: unknown,
  operation: string,
  timeoutMillis?: number,
): Effect.Effect<A, NatsError> =>
  Effect.flatMap(
    request(
      connection,
      `$JS.API.${verb}`,
      body === undefined ? noBytes : encoder.encode(JSON.stringify(body)),
      operation,
      timeoutMillis,
    ),
    (message) => {
      const reply = message.json<ApiReply & A>()
      return reply.error === undefined ? Effect.succeed(reply as A) : Effect.fail(
        new Rejected({
          operation,
          code: reply.error.err_code ?? 0,
          status: reply.error.code,
          description: reply.error.description,
        }),
      )
    },
  )
