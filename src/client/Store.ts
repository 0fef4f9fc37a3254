/**
 * Stores one new job: through the middleware, checked, encoded, under an id of the engine's or of the
 * caller's choice.
 */
import * as Effect from "effect/Effect"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import type { NatsError } from "../nats/errors.ts"
import type { Wire } from "../nats/Wire.ts"
import * as ChosenId from "./ChosenId.ts"
import {
  type Definition,
  type EnqueueOptions,
  type JobOptions,
  type Route,
  route,
} from "./Definition.ts"
import type { NewJob, Submitted } from "./Existing.ts"
import * as Interception from "./Interception.ts"
import * as Unique from "./Unique.ts"
import * as Writer from "./Writer.ts"

/** What a call wants beside storing its job. */
export interface Call {
  /** Its options, of which middleware doesn't see the job's identity. */
  readonly options: EnqueueOptions | undefined
  /** Run before the job is published. */
  readonly before?: ((id: JobId) => Effect.Effect<void>) | undefined
  /** Told whether the job is new. */
  readonly tell?: ((submitted: Submitted) => void) | undefined
}

const hasIdentity = (definition: Definition, options: EnqueueOptions | undefined): boolean =>
  definition.unique !== undefined ||
  (options !== undefined && (options.id !== undefined || options.unique !== undefined ||
    options.onConflict !== undefined))

/** Stores a job and gives its id. */
export type Store = (
  definition: Definition,
  payload: unknown,
  options: EnqueueOptions | undefined,
  timing: Writer.Timing | undefined,
  more?: Omit<Call, "options">,
) => Effect.Effect<JobId, Writer.EnqueueError>

/** Makes it for a namespace. */
export const make = (
  wire: Wire,
  writer: Writer.Writer,
  interception: Interception.Interception,
): Store => {
  const { publisher } = wire

  /** Stores a job whose id the caller chose, or that is unique. */
  const storeIdentified = Effect.fnUntraced(function* (
    definition: Definition,
    payload: unknown,
    to: Route,
    message: Uint8Array,
    due: number | undefined,
    { before, options, tell }: Call,
  ): Effect.fn.Return<JobId, Writer.EnqueueError> {
    const chosen = ChosenId.requestOf(options, definition)
    if (chosen instanceof InvalidOptions) return yield* chosen
    const job: NewJob = {
      route: to,
      message,
      due,
      publication: (id, message) => writer.publication(id, to, message, due),
    }
    const ready = writer.knowsQueue(to.queue) ? Effect.void : writer.ensureQueue(to.queue)
    let submitted: Submitted
    if (chosen !== undefined) {
      yield* ready
      submitted = yield* ChosenId.submit(wire, chosen, job, writer.patience)
    } else {
      const request = yield* Unique.requestOf(wire, definition, options?.unique, payload)
      yield* ready
      const id = writer.newIdIn(request.key.partition)
      if (before !== undefined) yield* before(id)
      submitted = yield* Unique.submit(wire, request, id, job, writer.patience)
    }
    const { created, id } = submitted
    if (created && interception.isWatched(definition)) {
      interception.notify(Interception.created(id, definition, to.queue, due), definition)
    }
    tell?.(submitted)
    return id
  })

  const storeNow = (
    definition: Definition,
    payload: unknown,
    options: JobOptions | undefined,
    timing: Writer.Timing | undefined,
    context: Interception.JobContext | undefined,
    call: Call,
  ): Effect.Effect<JobId, Writer.EnqueueError> => {
    const to = route(definition, options, context)
    if (to instanceof InvalidOptions) return Effect.fail(to)
    const due = timing === undefined ? undefined : writer.dueOf(timing, to.deadline)
    if (due instanceof InvalidOptions) return Effect.fail(due)
    return Effect.flatMapEager(
      writer.encode(definition, to.template, payload, "payload", Writer.sinceOf(to, due)),
      (message): Effect.Effect<JobId, Writer.EnqueueError> => {
        if (hasIdentity(definition, call.options)) {
          return storeIdentified(definition, payload, to, message, due, call)
        }
        const { before, tell } = call
        const id = writer.newId()
        const stored = Effect.callback<JobId, NatsError>((resume) => {
          publisher.publish(writer.publication(id, to, message, due), (ack) => {
            const failure = Writer.failureOf(ack)
            if (failure === undefined && interception.isWatched(definition)) {
              interception.notify(Interception.created(id, definition, to.queue, due), definition)
            }
            if (failure === undefined) tell?.({ id, created: true })
            resume(failure === undefined ? Effect.succeed(id) : Effect.fail(failure))
          })
        })
        const announced = before === undefined ? stored : Effect.andThen(before(id), stored)
        return writer.knowsQueue(to.queue)
          ? announced
          : Effect.andThen(writer.ensureQueue(to.queue), announced)
      },
    )
  }

  /** Through the middleware, if there is any; what it has changed is checked like a caller's word. */
  const store: Store = (definition, payload, options, timing, more = {}) =>
    Effect.withFiber((fiber) => {
      const call: Call = { ...more, options }
      if (!interception.isAround(definition)) {
        const context = Interception.withTrace(undefined, fiber)
        return storeNow(definition, payload, options, timing, context, call)
      }
      const request = Interception.requestOf(definition, payload, { ...options, ...timing })
      return interception.enqueue(
        definition,
        request,
        "payload",
        (changed) =>
          Effect.withFiber((fiber) => {
            const context = Interception.checkedContext(changed, fiber)
            return context instanceof InvalidOptions ? Effect.fail(context) : storeNow(
              definition,
              changed.payload,
              changed.options,
              changed.options,
              context,
              call,
            )
          }),
        true,
      )
    })

  return store
}
