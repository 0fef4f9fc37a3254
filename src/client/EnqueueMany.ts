/** Stores any number of jobs of one definition, page by page. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { InvalidOptions } from "../core/errors.ts"
import { type JobId, partitionIn } from "../core/JobId.ts"
import { maxAtomicBatch } from "../core/Limits.ts"
import { checkKeys, show } from "../core/Names.ts"
import * as AtomicBatch from "../nats/AtomicBatch.ts"
import type { NatsError } from "../nats/errors.ts"
import type { Wire } from "../nats/Wire.ts"
import { type Definition, jobOptionKeys, type JobOptions, type Route, route } from "./Definition.ts"
import * as Identity from "./Identity.ts"
import * as Interception from "./Interception.ts"
import * as PayloadSource from "./PayloadSource.ts"
import { type EnqueueError, failureOf, sinceOf, type Timing, type Writer } from "./Writer.ts"

export type { Payloads } from "./PayloadSource.ts"

/** Options of enqueueing many. */
export interface EnqueueManyOptions extends JobOptions, Timing {
  /** All or none, for up to 1,000 jobs; default false. */
  readonly atomic?: boolean | undefined
}

/**
 * A part of many jobs is stored, the rest is not. Where the error is `Unavailable`, jobs of the last
 * two pages that are not listed may be stored all the same.
 */
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

/** Jobs that are encoded, checked and stored together; large ones make smaller pages. */
const ordinaryPage = { jobs: 1_000, bytes: 8 * 1024 * 1024 }
/** All of them at once, or one too many. */
const atomicPage = { jobs: maxAtomicBatch + 1, bytes: Number.POSITIVE_INFINITY }

const optionKeys: ReadonlyArray<string> = [...jobOptionKeys, "atomic", "delay", "at"]

/** Where and when a job goes. */
interface Way {
  readonly to: Route
  readonly due: number | undefined
}

/** What the jobs of a call have in common. */
interface Plan extends Way {
  readonly definition: Definition
  readonly options: EnqueueManyOptions
  /** Ids of the new jobs: of all in one partition where they are stored together. */
  readonly newId: () => JobId
}

interface Page {
  readonly ids: ReadonlyArray<JobId>
  readonly messages: ReadonlyArray<Uint8Array>
  /** Of each job, where middleware may send each another way. */
  readonly ways: ReadonlyArray<Way> | undefined
}

/** What became of a page. */
interface StoredPage {
  readonly stored: ReadonlyArray<JobId>
  readonly failure: NatsError | undefined
}

/** Makes the operation for a namespace. */
export const make = (
  wire: Wire,
  writer: Writer,
  interception: Interception.Interception,
): (
  definition: Definition,
  payloads: PayloadSource.Payloads<unknown>,
  options?: EnqueueManyOptions,
) => Effect.Effect<ReadonlyArray<JobId>, EnqueueError | PartlyEnqueued> => {
  /** Reads and encodes a page, an empty one at the end: all is checked before any is stored. */
  const nextPage = Effect.fnUntraced(function* (
    source: PayloadSource.PayloadSource,
    plan: Plan,
    offset: number,
    most: { readonly jobs: number; readonly bytes: number },
  ) {
    const { definition, due, newId, to } = plan
    if (interception.isAround(definition)) return yield* nextAsked(source, plan, offset, most)
    const since = sinceOf(to, due)
    const messages: Array<Uint8Array> = []
    let bytes = 0
    while (messages.length < most.jobs && bytes < most.bytes) {
      const field = `payload[${offset + messages.length}]`
      const item = yield* source.next(field)
      if (item.done === true) break
      const message = yield* writer.encode(definition, to.template, item.value, field, since)
      messages.push(message)
      bytes += message.length
    }
    return { ids: messages.map(newId), messages, ways: undefined }
  })

  /** The same through the middleware, which is asked about each job. */
  const nextAsked = Effect.fnUntraced(function* (
    source: PayloadSource.PayloadSource,
    { definition, newId, options }: Plan,
    offset: number,
    most: { readonly jobs: number; readonly bytes: number },
  ) {
    const ids: Array<JobId> = []
    const messages: Array<Uint8Array> = []
    const ways: Array<Way> = []
    let bytes = 0
    while (ids.length < most.jobs && bytes < most.bytes) {
      const field = `payload[${offset + ids.length}]`
      const item = yield* source.next(field)
      if (item.done === true) break
      let message: Uint8Array = new Uint8Array(0)
      let way: Way | undefined
      const request = Interception.requestOf(definition, item.value, { ...options })
      const last: Interception.Next = Effect.fnUntraced(function* (changed) {
        const context = yield* Effect.withFiberSucceed((fiber) =>
          Interception.checkedContext(changed, fiber)
        )
        if (context instanceof InvalidOptions) return yield* context
        const to = route(definition, changed.options, context)
        if (to instanceof InvalidOptions) return yield* to
        const due = writer.dueOf(changed.options, to.deadline)
        if (due instanceof InvalidOptions) return yield* due
        if (!writer.knowsQueue(to.queue)) yield* writer.ensureQueue(to.queue)
        const { payload } = changed
        message = yield* writer.encode(definition, to.template, payload, field, sinceOf(to, due))
        way = { to, due }
        return newId()
      })
      ids.push(yield* interception.enqueue(definition, request, field, last, false))
      messages.push(message)
      ways.push(way as Way)
      bytes += message.length
    }
    return { ids, messages, ways }
  })

  const publicationOf = ({ ids, messages, ways }: Page, index: number, plan: Plan) => {
    const { due, to } = ways?.[index] ?? plan
    return writer.publication(ids[index] as JobId, to, messages[index] as Uint8Array, due)
  }

  const told = ({ ids, ways }: Page, index: number, plan: Plan): void => {
    const { definition } = plan
    if (!interception.isWatched(definition)) return
    const { due, to } = ways?.[index] ?? plan
    const created = Interception.created(ids[index] as JobId, definition, to.queue, due)
    interception.notify(created, definition)
  }

  /** Stores a page in the pipeline. */
  const storePage = (page: Page, plan: Plan): Effect.Effect<StoredPage> =>
    Effect.callback((resume) => {
      const failures = new Map<number, NatsError>()
      let left = page.ids.length
      for (let index = 0; index < page.ids.length; index++) {
        wire.publisher.publish(publicationOf(page, index, plan), (ack) => {
          const failure = failureOf(ack)
          if (failure === undefined) told(page, index, plan)
          else failures.set(index, failure)
          if (--left > 0) return
          const stored = page.ids.filter((_, at) => !failures.has(at))
          const [first] = failures.values()
          resume(Effect.succeed({ stored, failure: first }))
        })
      }
    })

  const storeAtomically = (
    page: Page,
    plan: Plan,
    ids: Array<JobId>,
  ): Effect.Effect<void, NatsError> => {
    const batch = page.ids.map((messageId, index) => ({
      ...publicationOf(page, index, plan),
      messageId,
    }))
    return Effect.map(AtomicBatch.publish(wire.nats.connection, batch, writer.patience), () => {
      for (const [index, id] of page.ids.entries()) {
        ids.push(id)
        told(page, index, plan)
      }
    })
  }

  const tooManyAtOnce = new InvalidOptions({
    field: "atomic",
    value: `more than ${maxAtomicBatch} payloads`,
    reason: `at most ${maxAtomicBatch} jobs can be stored all or none`,
  })

  return Effect.fnUntraced(function* (definition, payloads, options = {}) {
    const unknown = Identity.refuse(definition, options, "enqueueMany") ??
      checkKeys("options", options, optionKeys)
    if (unknown !== undefined) return yield* unknown
    const context = yield* Effect.withFiberSucceed((fiber) =>
      Interception.withTrace(undefined, fiber)
    )
    const to = route(definition, options, context)
    if (to instanceof InvalidOptions) return yield* to
    const due = writer.dueOf(options, to.deadline)
    if (due instanceof InvalidOptions) return yield* due
    const { atomic = false } = options
    if (typeof atomic !== "boolean") {
      return yield* new InvalidOptions({
        field: "atomic",
        value: show(atomic),
        reason: "it is true or false",
      })
    }
    if (!PayloadSource.isPayloads(payloads)) {
      return yield* new InvalidOptions({
        field: "payloads",
        value: show(payloads),
        reason: "an array, an iterable or an async iterable of payloads is expected",
      })
    }
    if (!writer.knowsQueue(to.queue)) yield* writer.ensureQueue(to.queue)
    const source = PayloadSource.make(definition.name, payloads)
    // An atomic batch is one of a stream, and each partition is one.
    const partition = partitionIn(writer.newId(), wire.partitions)
    const newId = atomic ? () => writer.newIdIn(partition) : writer.newId
    const plan: Plan = { definition, options, to, due, newId }
    const ids: Array<JobId> = []
    const storing: Array<Fiber.Fiber<StoredPage>> = []
    /** Takes what became of pages in their order, whichever was settled first. */
    const settle = Effect.fnUntraced(function* (atMost: number) {
      let failure: NatsError | undefined
      while (storing.length > atMost) {
        const page = yield* Fiber.join(storing.shift() as Fiber.Fiber<StoredPage>)
        for (const id of page.stored) ids.push(id)
        failure ??= page.failure
      }
      if (failure !== undefined) return yield* Effect.fail(failure)
    })
    const storeAll = Effect.gen(function* () {
      const most = atomic ? atomicPage : ordinaryPage
      for (let offset = 0;;) {
        const page = yield* nextPage(source, plan, offset, most)
        const { length } = page.ids
        if (length === 0) break
        if (atomic && length > maxAtomicBatch) return yield* tooManyAtOnce
        offset += length
        if (atomic) {
          yield* storeAtomically(page, plan, ids)
          break
        }
        // One page is encoded while two are on their way; never more are in memory.
        yield* settle(1)
        storing.push(
          yield* Effect.forkChild(storePage(page, plan), { startImmediately: true }),
        )
      }
      yield* settle(0)
    })
    return yield* storeAll.pipe(
      Effect.ensuring(source.close),
      Effect.as(ids),
      Effect.catch((error: EnqueueError) =>
        // What is on its way is stored all the same, so the error must know of it.
        Effect.andThen(
          Effect.ignore(settle(0)),
          Effect.suspend(() =>
            Effect.fail(ids.length === 0 ? error : new PartlyEnqueued({ stored: ids, error }))
          ),
        )
      ),
    )
  })
}
