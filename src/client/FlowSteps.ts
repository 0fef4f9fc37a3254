/**
 * The engine's own steps in workflows, which every server runs: they put results together, and make
 * one job of each element of a list. What they do can be repeated at any point.
 */
import * as Effect from "effect/Effect"
import { type AnySchema, schemaOf } from "../core/Codec.ts"
import * as DerivedId from "../core/DerivedId.ts"
import { openParts } from "../core/Encryption.ts"
import * as Envelope from "../core/Envelope.ts"
import * as JobId from "../core/JobId.ts"
import { maxElements, payloadLimit } from "../core/Limits.ts"
import * as MessagePack from "../core/MessagePack.ts"
import { partsIn } from "../core/Sealed.ts"
import { Discard } from "../core/Signal.ts"
import type { Parent } from "../core/Waits.ts"
import { failureOf } from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import type { Publication } from "../nats/Publisher.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import { CurrentJob } from "./CurrentJob.ts"
import type { Engine } from "./Engine.ts"
import { arrange, type Layout } from "./FlowPlan.ts"

export { fanName } from "./Command.ts"

/** Puts the results of these jobs together in a list. */
export const gatherName = "_gather"

/** Puts the results of several jobs together. */
export const joinName = "_join"

/** Retention class of the jobs of a fan, whose results are read when all of them have ended. */
export const elementClass = "_flow"

/** What a server does for a step; it gives bytes. */
export type Step = (payload: unknown) => Effect.Effect<Uint8Array, NatsError, CurrentJob>

/** What `_fan` is told. */
export interface Fan {
  /** The message of an element's job, as one that takes a result and waits for nothing. */
  readonly job: Uint8Array
  readonly queue: string
  readonly lane: number
  /** The batch of the elements, of which it is a member itself: it can't end before it has. */
  readonly batch: string
  /** The batch of the workflow, of which that one is a member. */
  readonly group: string
}

/** What `_gather` is told. It follows the fan, and the batch of the elements. */
export interface Gather {
  readonly queue: string
  readonly batch: string
}

/** What `_join` is told. */
export interface Join {
  /** How results are put together; `null` for the first one that there is. */
  readonly layout: Layout | null
}

const isMap = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isFan = (value: unknown): value is Fan => {
  if (!isMap(value) || !(value["job"] instanceof Uint8Array)) return false
  const job = Envelope.decode(value["job"])
  return Envelope.isEnvelope(job) && isGather(value) && Number.isInteger(value["lane"]) &&
    Number(value["lane"]) > 0 && Number(value["lane"]) <= 4 && Subjects.isToken(value["group"])
}

const isGather = (value: unknown): value is Gather =>
  isMap(value) && Subjects.isToken(value["queue"]) && Subjects.isToken(value["batch"])

const isLayout = (value: unknown): value is Layout =>
  typeof value === "number" ||
  (typeof value === "object" && value !== null && !(value instanceof Uint8Array) &&
    Object.values(value).every(isLayout))

const isJoin = (value: unknown): value is Join =>
  isMap(value) && (value["layout"] === null || isLayout(value["layout"]))

const noStep = "its payload is no step of a workflow"

const give = (value: unknown): Effect.Effect<Uint8Array> => Effect.succeed(value as Uint8Array)

/** Their payloads are plain data, and what they give is bytes already. */
export const schemas: Readonly<Record<"payload" | "success", AnySchema>> = {
  payload: schemaOf<unknown>({
    encode: (value) => Effect.sync(() => MessagePack.encode(value)),
    encodeShared: (value) => Effect.sync(() => MessagePack.encode(value)),
    decode: (bytes) => Effect.sync(() => MessagePack.decode(bytes)),
  }),
  success: schemaOf<Uint8Array>({ encode: give, encodeShared: give, decode: give }),
}

/** Trying again would change nothing. */
const refuse = (reason: string): Effect.Effect<never> => Effect.die(new Discard(reason))

/** Jobs that are stored, or read, at once. */
const storedAtOnce = 1_000
const readAtOnce = 200

const resultOf = (parent: Parent | undefined): Effect.Effect<unknown> => {
  const bytes = parent?.outcome?.result
  return bytes === undefined
    ? refuse(
      `job ${parent?.id} gave no result, or one that was too large to pass on; ` +
        "store large data elsewhere and return a reference",
    )
    : Effect.catchDefect(
      Effect.sync(() => MessagePack.decode(bytes)),
      () => refuse(`the result of job ${parent?.id} can't be read`),
    )
}

/** The whole in bytes, if it fits in a message. */
const fitting = (
  { nats }: Wire,
  value: unknown,
  count: number,
): Effect.Effect<Uint8Array> => {
  const bytes = MessagePack.encode(value)
  const limit = payloadLimit(nats.server().maxPayload)
  return bytes.length <= limit ? Effect.succeed(bytes) : refuse(
    `the results of ${count} jobs take ${bytes.length} bytes together, the limit is ${limit}; ` +
      "store large data elsewhere and return references",
  )
}

const publishAll = (
  { publisher }: Wire,
  publications: ReadonlyArray<Publication>,
): Effect.Effect<void, NatsError> =>
  Effect.flatten(
    Effect.callback<Effect.Effect<void, NatsError>>((resume) => {
      let left = publications.length
      let failure: Effect.Effect<void, NatsError> = Effect.void
      for (const publication of publications) {
        publisher.publish(publication, (ack) => {
          failure = failureOf(ack, publication.subject) ?? failure
          if (--left === 0) resume(Effect.succeed(failure))
        })
      }
    }),
  )

/**
 * Makes one job of each element. Their ids follow from its own, and each is stored only where nothing
 * is of that id, so they are all there once, however often a server dies meanwhile.
 */
export const fan = (wire: Wire, engine: Engine, patience: number): Step =>
  Effect.fnUntraced(function* (payload: unknown) {
    const { clock, subjects } = wire
    if (!isFan(payload)) return yield* refuse(noStep)
    const { batch, group, job, lane, queue } = payload
    const { id, parents: [parent] } = yield* CurrentJob
    const given = parent?.outcome?.result
    const { encryption } = wire
    const isLocked = given !== undefined && partsIn(given).length > 0
    const list = yield* (isLocked
      ? Effect.flatMap(
        Effect.catchTag(openParts(encryption, given), "Locked", ({ reason }) => refuse(reason)),
        (bytes) => Effect.sync(() => MessagePack.decode(bytes)),
      )
      : resultOf(parent))
    if (!Array.isArray(list)) return yield* refuse(`job ${parent?.id} has given no list`)
    if (list.length > maxElements) {
      return yield* refuse(
        `job ${parent?.id} has given ${list.length} elements, the limit is ${maxElements}; ` +
          "let each job take several of them",
      )
    }
    const partition = JobId.partitionOf(id)
    const target = Envelope.decode(job)
    const name = Envelope.isEnvelope(target) ? target.name : ""
    const bytesOf = (element: unknown): Effect.Effect<Uint8Array> => {
      const bytes = MessagePack.encode(element)
      return isLocked && encryption !== undefined
        ? encryption.seal(bytes, { kind: "element", name })
        : Effect.succeed(bytes)
    }
    const publicationOf = (result: Uint8Array, index: number): Publication => {
      const address = { partition, group: batch, id: DerivedId.derive(id, index) }
      const outcome = { state: "succeeded", result } as const
      return {
        subject: subjects.live("ready", queue, lane, address),
        payload: Envelope.withProgress(job, {
          ...Envelope.untouched,
          since: Math.ceil(clock.now()),
          waits: {
            staged: false,
            need: "all",
            on: ["succeeded"],
            delay: 0,
            parents: [{ id: parent?.id ?? id, outcome }],
          },
        }),
        expected: 0,
        filter: subjects.job(address),
        patience,
      }
    }
    for (let at = 0; at < list.length; at += storedAtOnce) {
      const some = yield* Effect.forEach(list.slice(at, at + storedAtOnce), bytesOf)
      yield* publishAll(wire, some.map((result, n) => publicationOf(result, at + n)))
    }
    // Beside the elements, this job itself.
    const total = list.length + 1
    yield* engine.batches.update(
      { partition, group, id: batch },
      (state) => state.total === total ? undefined : { ...state, total },
    )
    return MessagePack.encode(list.length)
  })

/** Reads what the jobs of a fan have given and puts it in a list, in the order of the elements. */
export const gather = (wire: Wire): Step =>
  Effect.fnUntraced(function* (payload: unknown) {
    const { reader, subjects } = wire
    if (!isGather(payload)) return yield* refuse(noStep)
    const { batch, queue } = payload
    const { parents: [parent] } = yield* CurrentJob
    const count = yield* resultOf(parent)
    if (typeof count !== "number" || !(count >= 0 && count <= maxElements)) {
      return yield* refuse(`job ${parent?.id} has made no jobs of a list`)
    }
    const fan = parent?.id ?? ""
    const partition = JobId.partitionOf(fan)
    const stream = Subjects.jobsStream(subjects.namespace, partition)
    const addresses = Array.from(
      { length: count },
      (_, index) => ({ partition, group: batch, id: DerivedId.derive(fan, index) }),
    )
    const envelope = { queue, options: { retention: elementClass } }
    const found = new Map<string, unknown>()
    const take = ({ envelope: { outcome }, subject: { id } }: Records.JobMessage) => {
      if (outcome?.result !== undefined) found.set(id, MessagePack.decode(outcome.result))
    }
    for (let at = 0; at < count; at += readAtOnce) {
      const filters = addresses.slice(at, at + readAtOnce)
        .map((address) => subjects.final("succeeded", envelope as Envelope.Envelope, address))
      for (const message of Records.parse(subjects, yield* reader.newest(stream, filters))) {
        take(message)
      }
    }
    const results: Array<unknown> = []
    for (const [index, address] of addresses.entries()) {
      if (!found.has(address.id)) {
        // A replica that lags behind doesn't know it yet, or it isn't what it should be.
        const view = yield* JobView.at(wire, address)
        if (view?.current.subject.state === "succeeded") take(view.current)
        if (!found.has(address.id)) {
          const state = view === undefined ? "has no record any more" : "has not succeeded"
          return yield* refuse(`job ${address.id}, of element ${index}, ${state}`)
        }
      }
      results.push(found.get(address.id))
    }
    return yield* fitting(wire, results, count)
  })

/** Puts the results of the jobs before it together. */
export const join = (wire: Wire): Step =>
  Effect.fnUntraced(function* (payload: unknown) {
    if (!isJoin(payload)) return yield* refuse(noStep)
    const { layout } = payload
    const { parents } = yield* CurrentJob
    if (layout === null) {
      const first = parents.find(({ outcome }) => outcome?.result !== undefined) ?? parents[0]
      return yield* fitting(wire, yield* resultOf(first), 1)
    }
    const values: Array<unknown> = []
    for (const parent of used(layout) ? parents : []) values.push(yield* resultOf(parent))
    return yield* fitting(wire, arrange(layout, values), values.length)
  })

/** Whether a layout has a place for any result. */
const used = (layout: Layout): boolean =>
  typeof layout === "number" || Object.values(layout).some(used)
