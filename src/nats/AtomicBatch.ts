/**
 * Several new messages stored together or not at all, by one atomic JetStream batch.
 *
 * nats-server before 2.14.4 remembers the filter of a condition by its place in a buffer, into which it
 * then reads the next message of the batch. Where that one's filter comes to lie at the same place, it
 * takes it for the other and refuses the batch, as the sequences differ. So each filter has a place of
 * its own in its headers. With replicas it also needs the filters while the batch is under way: there a
 * batch has at most one condition.
 */
import * as Effect from "effect/Effect"
import type { NatsConnection } from "nats"
import * as Api from "./Api.ts"
import { type NatsError, Rejected, repeatable, Unavailable } from "./errors.ts"
import { conditionLines, rawHeaders } from "./Publisher.ts"
import { duplicateWindowMillis } from "./TopologyPlan.ts"
import * as Violations from "./Violations.ts"

/** What must be true before the batch is stored: the newest sequence under a filter. */
export interface Condition {
  readonly expected: number
  readonly filter: string
}

/** A message of the batch. */
export interface BatchMessage {
  readonly subject: string
  readonly payload: Uint8Array
  /** Unique id, by which a repetition of the batch is recognised. */
  readonly messageId: string
  /** Further header lines, each ending in CRLF. */
  readonly headers?: string | undefined
  /** Its condition; each of a batch has a filter and a sequence of its own. */
  readonly condition?: Condition | undefined
}

const duplicateInBatch = 10201
const pauseMillis = 200
const shortestTryMillis = 100

/** Repetitions end, the last one's answer included, before the server forgets the message ids. */
const longestMillis = duplicateWindowMillis - 2 * Api.requestTimeoutMillis

/** More digits than a sequence has that a number can hold. */
const longestSequence = 17

/** What makes a message id so long that no two conditions of a batch begin at the same place. */
const shiftOf = ({ expected }: Condition, index: number): string =>
  "~".repeat(index + longestSequence - String(expected).length)

let counter = 0
const batchPrefix = crypto.randomUUID().slice(0, 18)

const operationOf = (messages: ReadonlyArray<BatchMessage>): string =>
  `storing ${messages.length} jobs together`

const attempt = (
  connection: NatsConnection,
  messages: ReadonlyArray<BatchMessage>,
  withinMillis: number,
): Effect.Effect<void, NatsError> =>
  Effect.suspend(() => {
    const operation = operationOf(messages)
    const id = `${batchPrefix}-${++counter}`
    let conditions = 0
    const headersOf = ({ condition, headers, messageId }: BatchMessage, index: number) =>
      `Nats-Batch-Id: ${id}\r\nNats-Batch-Sequence: ${index + 1}\r\nNats-Msg-Id: ${messageId}` +
      (condition === undefined ? "\r\n" : `${shiftOf(condition, conditions++)}\r\n` +
        conditionLines(condition.expected, condition.filter)) +
      (headers ?? "") +
      (index === messages.length - 1 ? "Nats-Batch-Commit: 1\r\n" : "")
    const last = messages.length - 1
    return Effect.flatMap(
      Effect.tryPromise({
        try: () => {
          for (let index = 0; index < last; index++) {
            const message = messages[index] as BatchMessage
            const headers = rawHeaders(headersOf(message, index))
            connection.publish(message.subject, message.payload, { headers })
          }
          const final = messages[last] as BatchMessage
          return connection.request(final.subject, final.payload, {
            headers: rawHeaders(headersOf(final, last)),
            timeout: withinMillis,
          })
        },
        catch: (cause) => Api.failureOf(operation, cause),
      }),
      (answer): Effect.Effect<void, NatsError> => {
        const { error } = answer.json<{
          readonly error?: {
            readonly code: number
            readonly err_code: number
            readonly description: string
          }
        }>()
        // With the ids of an earlier try refused as duplicates, that try was stored.
        if (error === undefined || error.err_code === duplicateInBatch) return Effect.void
        return Effect.fail(
          repeatable.has(error.err_code)
            ? new Unavailable({ operation, cause: new Error(error.description) })
            : new Rejected({
              operation,
              code: error.err_code,
              status: error.code,
              description: error.description,
            }),
        )
      },
    )
  })

/**
 * Stores all messages or none. A try without an answer is repeated with the same message ids until
 * `patienceMillis`, at most 20 seconds, are over; then it fails with `Unavailable` and may be stored,
 * or not.
 */
export const publish = (
  connection: NatsConnection,
  messages: ReadonlyArray<BatchMessage>,
  patienceMillis: number,
): Effect.Effect<void, NatsError> => {
  const end = performance.now() + Math.min(patienceMillis, longestMillis)
  const subjects = new Set(messages.map(({ subject }) => subject))
  let refused: Rejected | undefined
  const loop: Effect.Effect<void, NatsError> = Effect.catchTag(
    Effect.suspend(() => {
      if (refused !== undefined) return Effect.fail(refused)
      const left = Math.max(shortestTryMillis, end - performance.now())
      return attempt(connection, messages, Math.min(Api.requestTimeoutMillis, left))
    }),
    "Unavailable",
    (error) =>
      performance.now() > end
        ? Effect.fail(error)
        : Effect.andThen(Effect.sleep(pauseMillis), loop),
  )
  if (messages.length === 0) return Effect.void
  // Only the last message is answered: what becomes of the others shows as an incomplete batch.
  const listening = Effect.sync(() =>
    Violations.listen(connection, (violation) => {
      if (violation.operation !== "publish" || !subjects.has(violation.subject)) return
      refused ??= Violations.refusal(operationOf(messages), violation)
    })
  )
  return Effect.acquireUseRelease(listening, () => loop, (stop) => Effect.sync(stop))
}
