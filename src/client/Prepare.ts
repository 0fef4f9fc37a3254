/**
 * Makes the message of a job that is stored in some other way than a plain enqueue: after other jobs,
 * or as a member of a batch. Its way through middleware and checks is the same.
 */
import * as Effect from "effect/Effect"
import type { Options } from "../core/Envelope.ts"
import * as Envelope from "../core/Envelope.ts"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import * as MessagePack from "../core/MessagePack.ts"
import type { Wire } from "../nats/Wire.ts"
import { type Definition, type JobOptions, type Route, route } from "./Definition.ts"
import * as Identity from "./Identity.ts"
import * as Interception from "./Interception.ts"
import type { EnqueueError, Timing, Writer } from "./Writer.ts"

/** In place of a payload: the job takes what the one job it follows has given. */
export const parentResult: unique symbol = Symbol.for("portfire/parentResult")

/** In place of a payload: the job takes the list of what the jobs it follows have given. */
export const parentResults: unique symbol = Symbol.for("portfire/parentResults")

/** A job that is ready to be stored. */
export interface Prepared {
  readonly id: JobId
  readonly to: Route
  readonly message: Uint8Array
  /** When it is to run at the earliest, in ms since 1970. */
  readonly due: number | undefined
}

/** What is known of a job beside what its caller says. */
export interface Place {
  readonly partition: number
  /** Name of the payload in errors. */
  readonly field: string
  /** Whose retention its record has, if not its definition's. */
  readonly retention?: string | undefined
  /** Whether the same payload is to give the same bytes. */
  readonly stable?: boolean | undefined
  /** What is stored, for the error that says what can't be unique. */
  readonly what: string
}

const inputs = new Map<unknown, Options["input"]>([
  [parentResult, "result"],
  [parentResults, "results"],
])

/** Makes it for a namespace. */
export const make = (
  wire: Wire,
  writer: Writer,
  interception: Interception.Interception,
): (
  definition: Definition,
  payload: unknown,
  options: JobOptions & Timing,
  place: Place,
) => Effect.Effect<Prepared, EnqueueError> => {
  const prepared = Effect.fnUntraced(function* (
    definition: Definition,
    payload: unknown,
    options: JobOptions & Timing,
    context: Interception.JobContext | undefined,
    { field, partition, retention, stable }: Place,
  ): Effect.fn.Return<Prepared, EnqueueError> {
    const input = inputs.get(payload)
    const more = input === undefined && retention === undefined ? undefined : { input, retention }
    const to = route(definition, options, context, more)
    if (to instanceof InvalidOptions) return yield* to
    const due = writer.dueOf(options, to.deadline)
    if (due instanceof InvalidOptions) return yield* due
    if (!writer.knowsQueue(to.queue)) yield* writer.ensureQueue(to.queue)
    const message = input === undefined
      ? yield* writer.encode(definition, to.template, payload, field, undefined, stable)
      : Envelope.fresh(to.template, wire.clock.now(), MessagePack.encode(null))
    return { id: writer.newIdIn(partition), to, message, due }
  })
  return Effect.fnUntraced(function* (definition, payload, options, place) {
    const refused = Identity.refuse(definition, options, place.what)
    if (refused !== undefined) return yield* refused
    if (!interception.isAround(definition)) {
      const context = yield* Effect.withFiberSucceed((fiber) =>
        Interception.withTrace(undefined, fiber)
      )
      return yield* prepared(definition, payload, options, context, place)
    }
    const request = Interception.requestOf(definition, payload, { ...options })
    let result: Prepared | undefined
    const last: Interception.Next = Effect.fnUntraced(function* (changed) {
      const context = yield* Effect.withFiberSucceed((fiber) =>
        Interception.checkedContext(changed, fiber)
      )
      if (context instanceof InvalidOptions) return yield* context
      result = yield* prepared(definition, changed.payload, changed.options, context, place)
      return result.id
    })
    yield* interception.enqueue(definition, request, place.field, last, false)
    return result as unknown as Prepared
  })
}
