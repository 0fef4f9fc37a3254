/** Stores any number of jobs of one definition, page by page. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import { maxAtomicBatch } from "../core/Limits.ts"
import { checkKeys, show } from "../core/Names.ts"
import * as AtomicBatch from "../nats/AtomicBatch.ts"
import type { NatsError } from "../nats/errors.ts"
import type { Wire } from "../nats/Wire.ts"
import { type Definition, jobOptionKeys, type JobOptions, type Route, route } from "./Definition.ts"
import { type EnqueueError, failureOf, patienceMillis, type Timing, type Writer } from "./Writer.ts"

/** Options of enqueueing many. */
export interface EnqueueManyOptions extends JobOptions, Timing {
  /** All or none, for up to 1,000 jobs; default false. */
  readonly atomic?: boolean | undefined
}

/** Payloads of many jobs; an iterable is read as it is needed, never held whole. */
export type Payloads<P> = Iterable<P> | AsyncIterable<P>

/** A part of many jobs is stored, the rest is not. */
export class PartlyEnqueued extends Data.Error<{
  /** Ids of the jobs that are stored, in the order of their payloads. */
  readonly stored: ReadonlyArray<JobId>
  /** What stopped it. */
  readonly error: EnqueueError
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "PartlyEnqueued"
  /** Name in stack traces. */
  override readonly name = "PartlyEnqueued"
  /** One sentence a person can act on. */
  override get message(): string {
    return `${this.stored.length} jobs are stored, the rest is not: ${this.error.message}`
  }
}

/** Jobs that are encoded, checked and stored together. */
const pageSize = 1_000

const optionKeys: ReadonlyArray<string> = [...jobOptionKeys, "atomic", "delay", "at"]

interface Page {
  readonly ids: ReadonlyArray<JobId>
  readonly messages: ReadonlyArray<Uint8Array>
}

const isPayloads = (value: unknown): value is Payloads<unknown> =>
  typeof value === "object" && value !== null &&
  (Symbol.iterator in value || Symbol.asyncIterator in value)

/** Gives the next page each time it is run; an empty one at the end. */
const pagesOf = (
  payloads: Payloads<unknown>,
  size: number,
): Effect.Effect<ReadonlyArray<unknown>> => {
  if (Symbol.iterator in payloads) {
    const iterator = payloads[Symbol.iterator]()
    return Effect.sync(() => {
      const page: Array<unknown> = []
      while (page.length < size) {
        const item = iterator.next()
        if (item.done === true) break
        page.push(item.value)
      }
      return page
    })
  }
  const iterator = payloads[Symbol.asyncIterator]()
  return Effect.promise(async () => {
    const page: Array<unknown> = []
    while (page.length < size) {
      const item = await iterator.next()
      if (item.done === true) break
      page.push(item.value)
    }
    return page
  })
}

/** Makes the operation for a namespace. */
export const make = (
  wire: Wire,
  writer: Writer,
): (
  definition: Definition,
  payloads: Payloads<unknown>,
  options?: EnqueueManyOptions,
) => Effect.Effect<ReadonlyArray<JobId>, EnqueueError | PartlyEnqueued> => {
  /** Encodes a page; all of it is checked before any of it is stored. */
  const encodePage = Effect.fnUntraced(function* (
    definition: Definition,
    template: Uint8Array,
    payloads: ReadonlyArray<unknown>,
    offset: number,
  ) {
    const messages: Array<Uint8Array> = []
    for (let index = 0; index < payloads.length; index++) {
      const field = `payload[${offset + index}]`
      messages.push(yield* writer.encode(definition, template, payloads[index], field))
    }
    return { ids: messages.map(() => writer.newId()), messages }
  })

  /** Stores a page in the pipeline and adds the ids of what was stored. */
  const storePage = (
    page: Page,
    to: Route,
    due: number | undefined,
    ids: Array<JobId>,
  ): Effect.Effect<void, NatsError> =>
    Effect.callback((resume) => {
      const failures = new Map<number, NatsError>()
      let left = page.ids.length
      for (const [index, id] of page.ids.entries()) {
        const message = page.messages[index] as Uint8Array
        wire.publisher.publish(writer.publication(id, to, message, due), (ack) => {
          const failure = failureOf(ack)
          if (failure !== undefined) failures.set(index, failure)
          if (--left > 0) return
          for (const [at, id] of page.ids.entries()) if (!failures.has(at)) ids.push(id)
          const [first] = failures.values()
          resume(first === undefined ? Effect.void : Effect.fail(first))
        })
      }
    })

  const storeAtomically = (
    page: Page,
    to: Route,
    due: number | undefined,
    ids: Array<JobId>,
  ): Effect.Effect<void, NatsError> => {
    const batch = page.ids.map((messageId, index) => ({
      ...writer.publication(messageId, to, page.messages[index] as Uint8Array, due),
      messageId,
    }))
    return Effect.map(AtomicBatch.publish(wire.nats.connection, batch, patienceMillis), () => {
      for (const id of page.ids) ids.push(id)
    })
  }

  const tooManyAtOnce = new InvalidOptions({
    field: "atomic",
    value: `more than ${maxAtomicBatch} payloads`,
    reason: `at most ${maxAtomicBatch} jobs can be stored all or none`,
  })

  return Effect.fnUntraced(function* (definition, payloads, options = {}) {
    const unknown = checkKeys("options", options, optionKeys)
    if (unknown !== undefined) return yield* unknown
    const to = route(definition, options)
    if (to instanceof InvalidOptions) return yield* to
    const due = writer.dueOf(options)
    if (due instanceof InvalidOptions) return yield* due
    if (!isPayloads(payloads)) {
      return yield* new InvalidOptions({
        field: "payloads",
        value: show(payloads),
        reason: "an array, an iterable or an async iterable of payloads is expected",
      })
    }
    if (!writer.knowsQueue(to.queue)) yield* writer.ensureQueue(to.queue)
    const atomic = options.atomic === true
    const ids: Array<JobId> = []
    const storing: Array<Fiber.Fiber<void, NatsError>> = []
    const settle = (atMost: number): Effect.Effect<void, NatsError> =>
      Effect.suspend(() => {
        const first = storing.length > atMost ? storing.shift() : undefined
        return first === undefined ? Effect.void : Effect.andThen(Fiber.join(first), settle(atMost))
      })
    const storeAll = Effect.gen(function* () {
      const nextPage = pagesOf(payloads, atomic ? maxAtomicBatch + 1 : pageSize)
      for (let offset = 0;;) {
        const raw = yield* nextPage
        if (raw.length === 0) break
        if (atomic && raw.length > maxAtomicBatch) return yield* tooManyAtOnce
        const page = yield* encodePage(definition, to.template, raw, offset)
        offset += raw.length
        if (atomic) {
          yield* storeAtomically(page, to, due, ids)
          break
        }
        // One page is encoded while two are on their way; never more are in memory.
        yield* settle(1)
        storing.push(
          yield* Effect.forkChild(storePage(page, to, due, ids), { startImmediately: true }),
        )
      }
      yield* settle(0)
    })
    return yield* storeAll.pipe(
      Effect.as(ids),
      Effect.catch((error: EnqueueError) =>
        // What is on its way is stored all the same, so the error must know of it.
        Effect.andThen(
          Effect.forEach(storing, Fiber.await, { discard: true }),
          Effect.suspend(() =>
            Effect.fail(ids.length === 0 ? error : new PartlyEnqueued({ stored: ids, error }))
          ),
        )
      ),
    )
  })
}
