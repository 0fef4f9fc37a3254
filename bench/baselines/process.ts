/**
 * A job processor written by hand for speed: what an engine does for a job at the least, without what
 * makes it an engine. Decode, one Effect fiber, a record on the condition that the job is still the
 * one that was delivered, its publish acknowledgement, the job's acknowledgement.
 */
import { Decoder, Encoder } from "@msgpack/msgpack"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { createInbox, type Msg, type MsgHdrs, type NatsConnection } from "nats"
import {
  countMessages,
  type JobStream,
  lane,
  makeId,
  makeJobStream,
  type Payload,
  payload,
  queue,
  untilDrained,
} from "../support/jobs.ts"
import type { Workload } from "../support/workload.ts"
import { pullAll } from "./consume.ts"
import { publishAll } from "./publish.ts"

type Job = readonly [
  version: number,
  name: string,
  queue: string,
  lane: number,
  created: number,
  payload: Payload,
]

const encoder = new Encoder()
const decoder = new Decoder()
const text = new TextEncoder()
const nothing = new Uint8Array(0)
const arrayHead = 0x90
const jobLength = 6
const idLength = 26
const letterS = "s".charCodeAt(0)

/** The body of a job for {@link processAll}. */
export const encodeJob = (): Uint8Array =>
  encoder.encode([1, "mail/welcome", queue, lane, Date.now(), payload] satisfies Job)

const handler = (payload: Payload): Effect.Effect<number> =>
  Effect.sync(() => payload.to.length + payload.text.length)

/** A record is the job's own bytes with the outcome as one more element of the array. */
const encodeRecord = (job: Uint8Array, outcome: unknown): Uint8Array => {
  const tail = encoder.encodeSharedRef(outcome)
  const record = new Uint8Array(job.length + tail.length)
  record.set(job)
  record.set(tail, job.length)
  record[0] = arrayHead + jobLength + 1
  return record
}

/** The condition of a transition as header bytes. */
const condition = (sequence: string, filter: string): MsgHdrs => {
  const bytes = text.encode(
    `NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: ${sequence}\r\n` +
      `Nats-Expected-Last-Subject-Sequence-Subject: ${filter}\r\n\r\n`,
  )
  // The client takes nothing from headers but their bytes.
  return { encode: () => bytes } as unknown as MsgHdrs
}

/** Stream sequence in `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>…`. */
const sequenceOf = (reply: string, start: number): string => {
  const from = reply.indexOf(".", start) + 1
  return reply.slice(from, reply.indexOf(".", from))
}

/** Processes jobs until `onDone` answers `false`; `onDone` is called when a job was acknowledged. */
export const processAll = (
  connection: NatsConnection,
  stream: JobStream,
  onDone: () => boolean,
  onError: (error: Error) => void,
): void => {
  const inbox = `${createInbox()}.`
  const acks = new Map<string, string>()
  const deliveriesAt = `$JS.ACK.${stream.name}.${stream.consumer}.`.length
  let token = 0

  const records = connection.subscribe(`${inbox}*`, {
    callback: (_, message) => {
      const key = message.subject.slice(inbox.length)
      const ack = acks.get(key)
      if (ack === undefined) return
      if (message.data[2] !== letterS) return onError(new Error(message.string()))
      acks.delete(key)
      connection.publish(ack, nothing)
      if (!onDone()) {
        records.unsubscribe()
        jobs.unsubscribe()
      }
    },
  })

  const start = (message: Msg) => {
    const reply = message.reply as string
    const { data, subject } = message
    const job = decoder.decode(data) as Job
    const started = Date.now()
    Effect.runFork(handler(job[5])).addObserver((exit) => {
      if (!Exit.isSuccess(exit)) return onError(new Error("the handler failed"))
      const id = subject.slice(-idLength)
      const key = String(token++)
      acks.set(key, reply)
      connection.publish(
        stream.succeeded(id),
        encodeRecord(data, ["server", started, Date.now(), exit.value]),
        {
          reply: inbox + key,
          headers: condition(sequenceOf(reply, deliveriesAt), stream.anything(id)),
        },
      )
    })
  }
  const jobs = pullAll(connection, stream, start)
}

/** The reference of every processing. */
export const handWritten: Workload = {
  name: "hand-written processing loop",
  count: (jobs) => jobs,
  setup: async ({ connection, namespace }, count) => {
    const stream = await makeJobStream(connection, namespace)
    const subjects = Array.from({ length: count }, () => stream.ready(makeId()))
    await publishAll(connection, subjects, encodeJob())
    return {
      go: async () => {
        await new Promise<void>((resolve, reject) => {
          let done = 0
          processAll(connection, stream, () => {
            if (++done === count) resolve()
            return done < count
          }, reject)
        })
        await untilDrained(connection, namespace)
      },
      verify: async () => {
        const records = await countMessages(connection, namespace, "succeeded")
        const left = await countMessages(connection, namespace, "ready")
        if (records !== count || left !== 0) {
          throw new Error(`${records} records of ${count} jobs, ${left} jobs left`)
        }
      },
      close: () => Promise.resolve(),
    }
  },
}
