/**
 * What the streams of jobs have stored, in their order, kept by NATS itself in a stream beside them:
 * it outlives every death of a process. What NATS has under way to it when it is killed is missing;
 * which sequences these are is known.
 */
import * as Effect from "effect/Effect"
import * as Envelope from "../../../src/core/Envelope.ts"
import * as Api from "../../../src/nats/Api.ts"
import * as Subjects from "../../../src/nats/Subjects.ts"
import type { Wire } from "../../../src/nats/Wire.ts"
import type { Stored } from "../../model/History.ts"

const stream = "CHRONICLE"
const consumer = "reader"
const prefix = "chronicle"
const pageSize = 500

/** Begins to keep it. */
export const begin: (wire: Wire, replicas: number) => Effect.Effect<void, unknown> = Effect
  .fnUntraced(function* ({ nats: { connection, namespace }, partitions }, replicas) {
    yield* Api.call(
      connection,
      `STREAM.CREATE.${stream}`,
      { name: stream, subjects: [`${prefix}.>`], num_replicas: replicas },
      "keeping",
    )
    for (let partition = 0; partition < partitions; partition++) {
      const jobs = Subjects.jobsStream(namespace, partition)
      const { config } = yield* Api.call<{ readonly config: object }>(
        connection,
        `STREAM.INFO.${jobs}`,
        undefined,
        "reading",
      )
      const republish = { src: ">", dest: `${prefix}.>` }
      yield* Api.call(connection, `STREAM.UPDATE.${jobs}`, { ...config, republish }, "keeping")
    }
  })

/** What was kept. */
export interface Chronicle {
  /** Messages by job; `heard` is when they were stored, in ms since 1970. */
  readonly jobs: ReadonlyMap<string, ReadonlyArray<Stored>>
  readonly messages: number
  /** How many messages it lacks. */
  readonly missing: number
  /** Whether it has everything between two sequences of a partition. */
  readonly isWhole: (partition: number, from: number, to: number) => boolean
}

/** Reads all of it, and what lies in the streams now. */
export const read: (wire: Wire, replicas: number) => Effect.Effect<Chronicle, unknown> = Effect
  .fnUntraced(function* ({ nats: { connection }, subjects, partitions }, replicas) {
    yield* Api.call(
      connection,
      `CONSUMER.CREATE.${stream}.${consumer}`,
      {
        stream_name: stream,
        config: {
          name: consumer,
          durable_name: consumer,
          ack_policy: "none",
          num_replicas: replicas,
        },
      },
      "reading",
    )
    const jobs = new Map<string, Array<Stored>>()
    const heard = Array.from({ length: partitions }, () => new Set<number>())
    let messages = 0
    const page = () =>
      Effect.promise(() =>
        new Promise<number>((done, fail) => {
          let count = 0
          const inbox = `${prefix}-inbox.${crypto.randomUUID()}`
          const finish = (end: () => void) => {
            clearTimeout(timer)
            subscription.unsubscribe()
            end()
          }
          const timer = setTimeout(() => finish(() => fail(new Error("no answer"))), 10_000)
          const subscription = connection.subscribe(inbox, {
            callback: (_, { data, headers }) => {
              if (headers !== undefined && headers.code >= 400) return finish(() => done(count))
              count++
              const text = headers?.get("Nats-Subject") ?? ""
              const sequence = Number(headers?.get("Nats-Sequence"))
              const time = Date.parse(headers?.get("Nats-Time-Stamp") ?? "")
              const partition = Number(text.split(".")[2])
              const isNew = heard[partition]?.has(sequence) === false
              heard[partition]?.add(sequence)
              const subject = subjects.parse(text)
              const bytes = Uint8Array.from(data)
              const envelope = Envelope.decode(bytes)
              if (isNew) {
                messages++
                if (subject !== undefined && Envelope.isEnvelope(envelope)) {
                  const own = jobs.get(subject.id) ?? []
                  jobs.set(subject.id, own)
                  const stored = { subject: text, sequence, time, data: bytes }
                  own.push({ subject, stored, envelope, heard: time })
                }
              }
              if (count === pageSize) finish(() => done(count))
            },
          })
          const body = JSON.stringify({ batch: pageSize, no_wait: true })
          connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`, body, {
            reply: inbox,
          })
        })
      )
    while ((yield* page()) > 0);
    const gaps = heard.map((sequences) => {
      const last = sequences.values().reduce((a, b) => Math.max(a, b), 0)
      const missing: Array<number> = []
      for (let n = 1; n <= last; n++) if (!sequences.has(n)) missing.push(n)
      return missing
    })
    for (const own of jobs.values()) own.sort((a, b) => a.stored.sequence - b.stored.sequence)
    return {
      jobs,
      messages,
      missing: gaps.reduce((sum, { length }) => sum + length, 0),
      isWhole: (partition, from, to) =>
        gaps[partition]?.some((gap) => gap > from && gap < to) !== true,
    }
  })
