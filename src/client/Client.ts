/**
 * What an application asks of the engine: store jobs and read them. Definitions (`Job.make`) call it;
 * code that only has an id calls it directly.
 *
 * Guarantee: an enqueue that succeeded is on JetStream. Bad input fails before anything is written.
 *
 * @module
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import { checkKeys, checkName } from "../core/Names.ts"
import type { Instant } from "../core/Time.ts"
import type { NatsError } from "../nats/errors.ts"
import type { Nats } from "../nats/Nats.ts"
import { newestAtLeader } from "../nats/Reader.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import * as Wire from "../nats/Wire.ts"
import { type Definition, jobOptionKeys, type JobOptions, route } from "./Definition.ts"
import * as EnqueueMany from "./EnqueueMany.ts"
import * as JobRecord from "./JobRecord.ts"
import { findRunning } from "./Running.ts"
import * as Writer from "./Writer.ts"

export type { EnqueueError } from "./Writer.ts"
export { type EnqueueManyOptions, PartlyEnqueued, type Payloads } from "./EnqueueMany.ts"

/** When a job is to run: after a delay, or at an instant. One of the two. */
export type When =
  | { readonly delay: Duration.Input; readonly at?: undefined }
  | { readonly at: Instant; readonly delay?: undefined }

/** Why a job couldn't be read. */
export type ReadError =
  | JobRecord.JobNotFound
  | JobRecord.UnreadableRecord
  | InvalidOptions
  | NatsError

/** Stores and reads jobs. */
export interface Client {
  /** Stores a job that is ready to run, and gives its id. */
  readonly enqueue: (
    definition: Definition,
    payload: unknown,
    options?: JobOptions,
  ) => Effect.Effect<JobId, Writer.EnqueueError>
  /** Stores a job that becomes ready later. */
  readonly schedule: (
    definition: Definition,
    payload: unknown,
    options: JobOptions & When,
  ) => Effect.Effect<JobId, Writer.EnqueueError>
  /** Stores any number of jobs of one definition in bounded memory. */
  readonly enqueueMany: (
    definition: Definition,
    payloads: EnqueueMany.Payloads<unknown>,
    options?: EnqueueMany.EnqueueManyOptions,
  ) => Effect.Effect<ReadonlyArray<JobId>, Writer.EnqueueError | EnqueueMany.PartlyEnqueued>
  /** Reads a job in any state, without schemas. */
  readonly get: (id: JobId) => Effect.Effect<JobRecord.JobRecord, ReadError>
  /** Reads a job in any state with the schemas of a definition. */
  readonly getWith: <P, A, E>(
    id: JobId,
    decoders: JobRecord.Decoders<P, A, E>,
  ) => Effect.Effect<JobRecord.JobRecord<P, A, E>, ReadError>
}

/** The client as a service. */
export const Client: Context.Service<Client, Client> = Context.Service<Client>(
  "portfire/client/Client",
)

const scheduleKeys: ReadonlyArray<string> = [...jobOptionKeys, "delay", "at"]

const make = Effect.gen(function* () {
  const wire = yield* Wire.Wire
  const { nats, publisher, reader, subjects } = wire
  const writer = Writer.make(wire, yield* Writer.Patience)

  const store = (
    definition: Definition,
    payload: unknown,
    options: JobOptions | undefined,
    due: number | undefined,
  ): Effect.Effect<JobId, Writer.EnqueueError> => {
    const to = route(definition, options)
    if (to instanceof InvalidOptions) return Effect.fail(to)
    return Effect.flatMapEager(
      writer.encode(definition, to.template, payload, "payload"),
      (message): Effect.Effect<JobId, Writer.EnqueueError> => {
        const id = writer.newId()
        const stored = Effect.callback<JobId, NatsError>((resume) => {
          publisher.publish(writer.publication(id, to, message, due), (ack) => {
            const failure = Writer.failureOf(ack)
            resume(failure === undefined ? Effect.succeed(id) : Effect.fail(failure))
          })
        })
        return writer.knowsQueue(to.queue)
          ? stored
          : Effect.andThen(writer.ensureQueue(to.queue), stored)
      },
    )
  }

  const enqueue: Client["enqueue"] = (definition, payload, options) =>
    Effect.suspend(() => {
      const unknown = options === undefined
        ? undefined
        : checkKeys("options", options, jobOptionKeys)
      return unknown === undefined
        ? store(definition, payload, options, undefined)
        : Effect.fail(unknown)
    })

  const schedule: Client["schedule"] = (definition, payload, options) =>
    Effect.suspend(() => {
      const refused = checkKeys("options", options, scheduleKeys)
      if (refused !== undefined) return Effect.fail(refused)
      if (options.delay === undefined && options.at === undefined) {
        const reason = "schedule needs a delay or an instant (at)"
        return Effect.fail(new InvalidOptions({ field: "delay", value: "undefined", reason }))
      }
      const due = writer.dueOf(options)
      return due instanceof InvalidOptions
        ? Effect.fail(due)
        : store(definition, payload, options, due)
    })

  const findMessages = (id: JobId) => {
    const job = Subjects.addressOf(id, wire.partitions)
    // An id from elsewhere may look like one of ours in a partition that isn't there.
    if (job.partition >= wire.partitions) return Effect.succeed([])
    const stream = Subjects.jobsStream(subjects.namespace, job.partition)
    const filter = subjects.job(job)
    return Effect.flatMap(
      reader.newest(stream, [filter]),
      (found) =>
        found.length > 0 ? Effect.succeed(found) : Effect.map(
          // A replica that lags behind may not know the job yet; the leader does.
          newestAtLeader(nats.connection, stream, filter),
          (message) => message === undefined ? [] : [message],
        ),
    )
  }

  const getWith: Client["getWith"] = Effect.fnUntraced(function* (id, decoders) {
    const illegal = checkName("id", id)
    if (illegal !== undefined) return yield* illegal
    const found = yield* findMessages(id)
    if (found.length === 0) return yield* new JobRecord.JobNotFound({ id })
    const message = Records.current(Records.parse(subjects, found))
    if (message === undefined) {
      const reason = "its bytes are no job of a version that this engine reads"
      return yield* new JobRecord.UnreadableRecord({ id, field: "message", reason })
    }
    const record = yield* JobRecord.fromMessage(message, decoders)
    if (record.state !== "enqueued") return record
    const running = yield* findRunning(wire, id)
    return running === undefined ? record : { ...record, state: "processing" as const, running }
  })

  return Client.of({
    enqueue,
    schedule,
    enqueueMany: EnqueueMany.make(wire, writer),
    get: (id) => getWith(id, JobRecord.plainDecoders),
    getWith,
  })
})

/** Provides the client on a namespace that is there already. */
export const layerOnWire: Layer.Layer<Client, never, Wire.Wire> = Layer.effect(Client, make)

/** Provides the client; all a process needs that only enqueues and reads. */
export const layer: Layer.Layer<Client, Wire.WireError, Nats> = Layer.provide(
  layerOnWire,
  Wire.layer,
)
