/** Turns payloads into stored messages: the part that one job and a million jobs share. */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type { Mismatch } from "../core/Codec.ts"
import * as Envelope from "../core/Envelope.ts"
import { InvalidOptions, InvalidPayload, PayloadTooLarge } from "../core/errors.ts"
import * as JobId from "../core/JobId.ts"
import { maxInstantMillis, payloadLimit } from "../core/Limits.ts"
import { show } from "../core/Names.ts"
import { type Instant, instantOf, millisOf } from "../core/Time.ts"
import { Code, type NatsError, Rejected, Unavailable } from "../nats/errors.ts"
import type { Ack, Publication } from "../nats/Publisher.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { TopologyConflict } from "../nats/Topology.ts"
import type { Wire } from "../nats/Wire.ts"
import type { Definition, Route } from "./Definition.ts"
import type { JobExists } from "./Existing.ts"
import type { EnqueueVetoed, MiddlewareFailed } from "./MiddlewareErrors.ts"
import { isSealed } from "./Unlock.ts"

/** How long a caller waits for NATS before storing a job fails as `Unavailable`, in milliseconds. */
export const Patience: Context.Reference<number> = Context.Reference<number>(
  "portfire/client/Patience",
  { defaultValue: () => 30_000 },
)

/** Why a job couldn't be enqueued. Only after `Unavailable` it may be stored all the same. */
export type EnqueueError =
  | InvalidOptions
  | InvalidPayload
  | PayloadTooLarge
  | TopologyConflict
  | JobExists
  | NatsError
  | EnqueueVetoed
  | MiddlewareFailed

/** When a job is to run; without either, now. */
export interface Timing {
  readonly delay?: Duration.Input | undefined
  readonly at?: Instant | undefined
}

/** Makes and stores the messages of new jobs. */
export interface Writer {
  /** See {@link Patience}. */
  readonly patience: number
  /** A new job's id; partitions take turns. */
  readonly newId: () => JobId.JobId
  /** A new job's id in a partition. */
  readonly newIdIn: (partition: number) => JobId.JobId
  /**
   * Encodes a payload into a job's message; finished at once for ordinary schemas. `since` is when
   * the job becomes ready, which a job with a time to live must know unless that is now.
   */
  readonly encode: (
    definition: Definition,
    template: Uint8Array,
    payload: unknown,
    field: string,
    since?: number | undefined,
    /** Whether the same payload is to give the same bytes, encrypted or not. */
    stable?: boolean | undefined,
  ) => Effect.Effect<Uint8Array, InvalidPayload | PayloadTooLarge>
  /** The message to publish; `due` in ms since 1970 by the server's clock, `undefined` for now. */
  readonly publication: (
    id: JobId.JobId,
    route: Route,
    message: Uint8Array,
    due: number | undefined,
  ) => Publication
  /**
   * Makes the queue's consumers when this process hasn't seen them yet. A user that may not make them
   * stores jobs all the same: they wait in the stream for the first server that takes the queue.
   */
  readonly ensureQueue: (
    queue: string,
  ) => Effect.Effect<void, NatsError | TopologyConflict | InvalidOptions>
  /** Whether {@link Writer.ensureQueue} has nothing to do. */
  readonly knowsQueue: (queue: string) => boolean
  /**
   * The instant a timing means, by the server's clock; `undefined` for now or the past. One at which
   * a new job's deadline will have passed is refused.
   */
  readonly dueOf: (timing: Timing, deadline?: number) => number | undefined | InvalidOptions
}

/** What a publish answer means for a job that is new. */
export const failureOf = (ack: Ack): NatsError | undefined => {
  switch (ack._tag) {
    case "Stored":
    // Nobody else makes this id: an earlier try of ours was stored although its answer got lost.
    case "Conflict":
      return undefined
    case "Refused":
      return new Rejected({
        operation: "storing a job",
        code: ack.code,
        status: 0,
        description: ack.description,
      })
    case "Unknown":
      return new Unavailable({ operation: "storing a job" })
  }
}

/** What {@link Writer.encode} has to be told of a job that is due later. */
export const sinceOf = ({ ttl }: Route, due: number | undefined): number | undefined =>
  ttl === undefined || due === undefined ? undefined : Math.ceil(due)

/** Queues remembered that this user may make no consumers for; beyond it they are tried again. */
const rememberedQueues = 10_000

/** Makes the writer of a namespace. */
export const make = (wire: Wire, patience: number): Writer => {
  const { clock, encryption, nats, subjects } = wire
  const nextId = JobId.makeGenerator()
  const partitions = Array.from({ length: wire.partitions }, (_, partition) => partition)
  let turn = 0
  /** Queues whose consumers are others' to make. */
  const foreign = new Set<string>()
  const knowsQueue = (queue: string) =>
    foreign.has(queue) || partitions.every((p) => wire.knowsQueue(queue, p))
  return {
    patience,
    newId: () => nextId(turn = (turn + 1) % wire.partitions),
    newIdIn: nextId,
    encode: (definition, template, payload, field, since, stable) => {
      const { name, payload: codec } = definition
      // Decided by its size as it is, since that is what its author can change.
      const sealed = encryption === undefined || !isSealed(name) ? undefined : encryption
      const made = (bytes: Uint8Array) => {
        const created = clock.now()
        return since === undefined
          ? Envelope.fresh(template, created, bytes)
          : Envelope.freshWith(template, created, bytes, { ...Envelope.untouched, since })
      }
      return Effect.flatMapEager(
        Effect.mapErrorEager(
          sealed === undefined ? codec.encodeShared(payload) : codec.encode(payload),
          ({ path, reason }: Mismatch) =>
            new InvalidPayload({ job: definition.name, field: field + path, reason }),
        ),
        (bytes): Effect.Effect<Uint8Array, PayloadTooLarge> => {
          const limit = payloadLimit(nats.server().maxPayload)
          const size = bytes.length
          if (size > limit) {
            return Exit.fail(new PayloadTooLarge({ job: definition.name, field, size, limit }))
          }
          return sealed === undefined
            ? Exit.succeed(made(bytes))
            : Effect.map(sealed.seal(bytes, { kind: "payload", name }, stable), made)
        },
      )
    },
    publication: (id, { lane, queue }, payload, due) => {
      const partition = wire.partitions === 1 ? 0 : JobId.partitionIn(id, wire.partitions)
      const job = { partition, group: Subjects.noGroup, id }
      const ready = subjects.live("ready", queue, lane, job)
      const filter = subjects.job(job)
      if (due === undefined) {
        return { subject: ready, payload, expected: undefined, filter, patience }
      }
      const subject = subjects.live("later", queue, lane, job)
      const headers = Subjects.scheduleLines(due, ready)
      return { subject, payload, expected: undefined, filter, headers, patience }
    },
    ensureQueue: (queue) =>
      Effect.forEach(
        foreign.has(queue) ? [] : partitions.filter((p) => !wire.knowsQueue(queue, p)),
        (p) => wire.ensureQueue(queue, p),
        { discard: true },
      ).pipe(
        Effect.retry({
          while: (error) => error._tag === "Unavailable",
          schedule: Schedule.spaced("200 millis").pipe(Schedule.upTo({ duration: patience })),
        }),
        Effect.catchIf(
          (error) => error._tag === "Rejected" && error.code === Code.notPermitted,
          () =>
            Effect.sync(() => {
              if (foreign.size >= rememberedQueues) foreign.clear()
              foreign.add(queue)
            }),
        ),
      ),
    knowsQueue,
    dueOf: ({ at, delay }, deadline = Number.POSITIVE_INFINITY) => {
      if (delay !== undefined && at !== undefined) {
        const reason = "a job has either a delay or an instant, not both"
        return new InvalidOptions({ field: "at", value: show(at), reason })
      }
      const now = clock.now()
      const refuse = (reason: string) =>
        at === undefined
          ? new InvalidOptions({ field: "delay", value: show(delay), reason })
          : new InvalidOptions({ field: "at", value: show(at), reason })
      const tooLate = "the job would become ready only when its deadline has passed"
      if (at !== undefined) {
        const instant = instantOf("at", at)
        if (typeof instant !== "number") return instant
        if (instant <= now) return undefined
        return instant - now < deadline ? instant : refuse(tooLate)
      }
      const millis = delay === undefined ? 0 : millisOf("delay", delay)
      if (typeof millis !== "number") return millis
      if (millis === 0) return undefined
      if (millis >= deadline) return refuse(tooLate)
      if (now + millis < maxInstantMillis) return now + millis
      return refuse("the NATS server keeps no schedule after 2262-01-01")
    },
  }
}
