/**
 * Checks deliveries before they run (W10): whether a job has ended or moved on in the meantime. NATS
 * delivers again what it can't know to be done, and after a crash it forgets that it did, so every
 * delivery is checked, whatever its count says.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Transition from "../src/client/Transition.ts"
import * as Bytes from "../src/core/Bytes.ts"
import { placeOf } from "../src/core/Envelope.ts"
import { finalStates } from "../src/core/JobState.ts"
import * as Conditional from "../src/nats/Conditional.ts"
import * as Records from "../src/nats/Records.ts"
import { sequenceAtLeader } from "../src/nats/Reader.ts"
import * as Subjects from "../src/nats/Subjects.ts"
import type { Wire } from "../src/nats/Wire.ts"
import type { Delivery } from "./Delivery.ts"
import type { Pool } from "./Pool.ts"

/** Jobs per read: a read may match at most 1,024 messages, and most match none. */
const batchSize = 200

/** Adds the subjects on which a message would mean that this delivery is stale. */
const addSubjects = (
  filters: Array<string>,
  subjects: Subjects.Subjects,
  { envelope, lapsed, message, subject, unreadable }: Delivery,
): void => {
  if (message.deliveries > 1 || lapsed || unreadable !== undefined) {
    filters.push(subjects.job(subject))
    return
  }
  const { lane: own } = placeOf(envelope)
  for (const state of finalStates) filters.push(subjects.final(state, envelope, subject))
  filters.push(
    subjects.live("retry", subject.queue, own, subject),
    subjects.live("later", subject.queue, own, subject),
  )
  for (const lane of [0, own]) {
    const ready = subjects.live("ready", subject.queue, lane, subject)
    if (ready !== message.subject) filters.push(ready)
  }
}

const keyOf = ({ group, id }: Subjects.Address): string => `${group}.${id}`

/** A message of a job, whether this engine can read what it says or not. */
type Found = Pick<Records.JobMessage, "stored" | "subject">

/**
 * Whether a message that waits for its time has taken the place of this delivery's. A schedule that is
 * replaced in the moment in which it fires may fire all the same, after its replacement was stored.
 * Where that still lies in the future the job runs then, so nothing is lost by dropping what came.
 */
const isReplaced = (delivery: Delivery, { stored, subject }: Found, now: number): boolean => {
  if (subject.state !== "later" && subject.state !== "retry") return false
  // The schedule that has just fired, and is on its way out, says the same.
  return (stored.due ?? 0) > now && !Bytes.same(stored.data, delivery.message.data)
}

/** Whether the job has moved on since this delivery's message was stored. */
const isStale = (delivery: Delivery, messages: ReadonlyArray<Found>, now: number): boolean =>
  messages.some((found) =>
    Records.isRecord(found.subject)
      ? found.stored.sequence > delivery.envelope.progress.after
      : found.stored.sequence > delivery.message.sequence || isReplaced(delivery, found, now)
  )

const patiently = Schedule.spaced("200 millis")

/** How often a replica that lags behind is asked again before the leader is. */
const readsBeforeLeader = 2

/**
 * Reads what exists under the filters. With replicas a direct read may be answered by one that lags
 * behind, so the newest delivered message is read along as a canary: an answer without it doesn't
 * count. Gives `undefined` when the canary is gone for good, which the leader alone can say.
 */
const read = Effect.fnUntraced(function* (
  { nats, reader, replicated }: Wire,
  stream: string,
  filters: ReadonlyArray<string>,
  canary: Delivery,
) {
  const { sequence, subject } = canary.message
  for (let reads = 1;; reads++) {
    const found = yield* reader.newest(stream, replicated ? [...filters, subject] : filters)
    if (!replicated) return found
    if (found.some((m) => m.subject === subject && m.sequence >= sequence)) return found
    if (reads % readsBeforeLeader > 0) continue
    const there = yield* sequenceAtLeader(nats.connection, stream, sequence)
    if (there === undefined) return undefined
    yield* Effect.sleep("20 millis")
  }
})

/** Removes records of earlier lives, left by somebody who requeued their jobs and died. */
const removeOld = (
  wire: Wire,
  deliveries: ReadonlyArray<Delivery>,
  byJob: ReadonlyMap<string, ReadonlyArray<Found>>,
): Effect.Effect<void> => {
  const old = deliveries.flatMap(({ envelope: { progress: { after } }, subject }) =>
    (byJob.get(keyOf(subject)) ?? []).filter((found) =>
      Records.isRecord(found.subject) && found.stored.sequence <= after
    )
  )
  return Effect.forEach(
    old,
    ({ stored, subject: { partition } }) =>
      // Whoever meets the job next tries again.
      Effect.ignore(Conditional.remove(wire, partition, stored.sequence)),
    { concurrency: 16, discard: true },
  )
}

/** Checks some deliveries of one partition: those that may run get in line, the others are dropped. */
const screenSome: (
  pool: Pool,
  deliveries: ReadonlyArray<Delivery>,
) => Effect.Effect<void> = Effect.fnUntraced(function* (pool, deliveries) {
  const { emit, wire } = pool.options
  const { clock, subjects } = wire
  const pass = (delivery: Delivery) => {
    delivery.lapsed = false
    delivery.checked = performance.now()
    pool.wait(delivery)
  }
  const drop = (delivery: Delivery) => {
    pool.meet(delivery)
    emit({
      _tag: "DeliveryDropped",
      id: delivery.subject.id,
      name: delivery.envelope.name,
      delivery: delivery.message.deliveries,
    })
  }
  /** Cancelling a batch is one write; its members follow where they are met (W19). */
  const cancel = (delivery: Delivery) => {
    delivery.transition = Transition.final(subjects, delivery, "cancelled", {
      ended: clock.now(),
      counts: false,
      reason: `its batch ${delivery.subject.group} was cancelled`,
    })
    pool.settle(delivery)
  }
  const canary = deliveries.reduce((a, b) => a.message.sequence > b.message.sequence ? a : b)
  const stream = Subjects.jobsStream(subjects.namespace, canary.subject.partition)
  const filters: Array<string> = []
  const batches = new Set<string>()
  for (const delivery of deliveries) {
    addSubjects(filters, subjects, delivery)
    if (delivery.subject.group !== Subjects.noGroup) batches.add(delivery.subject.group)
  }
  for (const batch of batches) {
    filters.push(subjects.cancelledBatch(canary.subject.partition, batch))
  }
  const found = yield* Effect.retry(read(wire, stream, filters, canary), patiently).pipe(
    Effect.orDie,
  )
  if (found === undefined) {
    drop(canary)
    const others = deliveries.filter((delivery) => delivery !== canary)
    return others.length === 0 ? undefined : yield* screenSome(pool, others)
  }
  // The rule, by far: nothing has moved on.
  if (found.length === 0) {
    for (const delivery of deliveries) pass(delivery)
    return
  }
  const byJob = new Map<string, Array<Found>>()
  for (const stored of found) {
    const subject = subjects.parse(stored.subject)
    if (subject === undefined) continue
    const key = keyOf(subject)
    const list = byJob.get(key)
    if (list === undefined) byJob.set(key, [{ stored, subject }])
    else list.push({ stored, subject })
  }
  yield* removeOld(wire, deliveries, byJob)
  const now = clock.now()
  const cancelled = found.map(({ subject }) => subjects.parse(subject)?.id)
    .filter((id) => id !== undefined && batches.has(id))
  for (const delivery of deliveries) {
    const messages = byJob.get(keyOf(delivery.subject))
    if (messages !== undefined && isStale(delivery, messages, now)) drop(delivery)
    else if (cancelled.includes(delivery.subject.group)) cancel(delivery)
    else pass(delivery)
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
