/**
 * Checks deliveries before they run (W10): whether a job has ended or moved on in the meantime. NATS
 * delivers again what it can't know to be done, and after a crash it forgets that it did, so every
 * delivery is checked, whatever its count says.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Records from "../src/nats/Records.ts"
import * as Subjects from "../src/nats/Subjects.ts"
import type { Delivery } from "./Delivery.ts"
import type { Pool } from "./Pool.ts"

/** Jobs per read: a read may match at most 1,024 messages, and most match none. */
const batchSize = 200

const finals = ["succeeded", "failed", "cancelled"] as const

/** Subjects on which a message would mean that this delivery is stale. */
const subjectsOf = (subjects: Subjects.Subjects, delivery: Delivery): ReadonlyArray<string> => {
  const { envelope, message, subject } = delivery
  if (message.deliveries > 1 || delivery.unreadable !== undefined) return [subjects.job(subject)]
  const own = subjects.live("ready", subject.queue, 0, subject)
  return [
    ...finals.map((state) => subjects.final(state, envelope, subject)),
    subjects.live("retry", subject.queue, envelope.lane, subject),
    subjects.live("later", subject.queue, envelope.lane, subject),
    ...(own === message.subject ? [] : [own]),
  ]
}

/** Whether the job has moved on since this delivery's message was stored. */
const isStale = (delivery: Delivery, messages: ReadonlyArray<Records.JobMessage>): boolean =>
  messages.some(({ stored, subject }) =>
    Records.isRecord(subject)
      ? stored.sequence > delivery.envelope.progress.after
      : stored.sequence > delivery.message.sequence
  )

const readPatiently = Schedule.spaced("200 millis")

/** Checks some deliveries of one partition; gives those that may run and drops the others. */
const screenSome = Effect.fnUntraced(function* (pool: Pool, deliveries: ReadonlyArray<Delivery>) {
  const { emit, wire } = pool.options
  const { subjects } = wire
  const partition = deliveries[0]?.subject.partition ?? 0
  const found = yield* Effect.retry(
    wire.reader.newest(
      Subjects.jobsStream(subjects.namespace, partition),
      deliveries.flatMap((delivery) => subjectsOf(subjects, delivery)),
    ),
    readPatiently,
  ).pipe(Effect.orDie)
  const byJob = new Map<string, Array<Records.JobMessage>>()
  for (const message of Records.parse(subjects, found)) {
    const key = `${message.subject.group}.${message.subject.id}`
    const list = byJob.get(key)
    if (list === undefined) byJob.set(key, [message])
    else list.push(message)
  }
  for (const delivery of deliveries) {
    const messages = byJob.get(`${delivery.subject.group}.${delivery.subject.id}`)
    if (messages === undefined || !isStale(delivery, messages)) {
      pool.wait(delivery)
    } else {
      // Whoever moved the job on may have died before this acknowledgement (W6).
      pool.release(delivery)
      emit({
        _tag: "DeliveryDropped",
        id: delivery.subject.id,
        name: delivery.envelope.name,
        delivery: delivery.message.deliveries,
      })
    }
  }
})

/** Checks deliveries, in as few reads as it can. */
export const screen = (
  pool: Pool,
  deliveries: ReadonlyArray<Delivery>,
): Effect.Effect<void> => {
  const groups = new Map<number, Array<Array<Delivery>>>()
  for (const delivery of deliveries) {
    const group = groups.get(delivery.subject.partition) ?? []
    groups.set(delivery.subject.partition, group)
    const last = group.at(-1)
    if (last === undefined || last.length === batchSize) group.push([delivery])
    else last.push(delivery)
  }
  return Effect.forEach([...groups.values()].flat(), (some) => screenSome(pool, some), {
    concurrency: "unbounded",
    discard: true,
  })
}
