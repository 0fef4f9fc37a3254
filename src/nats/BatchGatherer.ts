/**
 * Stores small atomic batches of many authors together. On a stream without replicas NATS makes a
 * folder for each batch, which takes it a millisecond or two, one batch after the other. So while one
 * is under way those that come are gathered, and go together in the next one.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { NatsConnection } from "nats"
import * as AtomicBatch from "./AtomicBatch.ts"
import type { NatsError } from "./errors.ts"

/**
 * Stores all messages or none, as {@link AtomicBatch.publish} does. What isn't to be stored beside
 * something else says so by a condition.
 */
export type Store = (
  messages: ReadonlyArray<AtomicBatch.BatchMessage>,
) => Effect.Effect<void, NatsError>

/** Most messages that go together; the server takes a thousand. */
const mostMessages = 500

/** Most bytes that go together. */
const mostBytes = 4 * 1_024 * 1_024

/** Time in which those are gathered that come nearly at once, in milliseconds. */
const gatherMillis = 2

/** Those that are stored alone at once, where together they were refused. */
const aloneAtOnce = 16

interface Part {
  readonly messages: ReadonlyArray<AtomicBatch.BatchMessage>
  readonly bytes: number
  readonly resume: (stored: Effect.Effect<void, NatsError>) => void
}

/** The filters of the conditions of a batch. */
const filtersOf = ({ messages }: Part): ReadonlyArray<string> =>
  messages.flatMap(({ condition }) => condition === undefined ? [] : [condition.filter])

/** Makes it for a connection. */
export const make = (connection: NatsConnection, patienceMillis: number): Store => {
  let line: Array<Part> = []
  let isBusy = false

  const publish: Store = (messages) => AtomicBatch.publish(connection, messages, patienceMillis)

  const publishPart = ({ messages, resume }: Part) =>
    Effect.map(Effect.exit(publish(messages)), resume)

  /**
   * The next parts: the first one whatever its size, and what still fits. Of two under the same
   * condition one is to be refused, and in one batch both would meet it.
   */
  const take = (): ReadonlyArray<Part> => {
    let count = 0
    let bytes = 0
    const filters = new Set<string>()
    const end = line.findIndex((part, index) => {
      count += part.messages.length
      bytes += part.bytes
      const own = filtersOf(part)
      const isRival = own.some((filter) => filters.has(filter))
      for (const filter of own) filters.add(filter)
      return index > 0 && (isRival || count > mostMessages || bytes > mostBytes)
    })
    return line.splice(0, end === -1 ? line.length : end)
  }

  const publishTogether = Effect.fnUntraced(function* (parts: ReadonlyArray<Part>) {
    const [first] = parts
    if (first === undefined) return
    if (parts.length === 1) return yield* publishPart(first)
    const stored = yield* Effect.exit(publish(parts.flatMap(({ messages }) => messages)))
    const isRefused = Exit.isFailure(stored) &&
      Exit.findErrorOption(stored).pipe((error) =>
        error._tag === "Some" && error.value._tag === "Rejected"
      )
    // One that is refused has all refused, and what is stored of them is told for each.
    if (isRefused) {
      yield* Effect.forEach(parts, publishPart, { concurrency: aloneAtOnce, discard: true })
    } else for (const { resume } of parts) resume(stored)
  })

  const work = Effect.gen(function* () {
    while (line.length > 0) {
      yield* Effect.sleep(gatherMillis)
      yield* publishTogether(take())
    }
    isBusy = false
  })

  return (messages) =>
    Effect.callback<void, NatsError>((resume) => {
      const bytes = messages.reduce((sum, { payload }) => sum + payload.length, 0)
      const part: Part = { messages, bytes, resume }
      line.push(part)
      if (!isBusy) {
        isBusy = true
        Effect.runFork(work)
      }
      return Effect.sync(() => {
        line = line.filter((other) => other !== part)
      })
    })
}
