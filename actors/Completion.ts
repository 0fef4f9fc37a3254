/**
 * What comes after a record is stored, before its job is let go: whatever follows the job is seen to
 * (W17). Whole rounds of records are looked at together, and most of them have nothing that follows.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Links from "../src/nats/Links.ts"
import { noGroup } from "../src/nats/Subjects.ts"
import type { Delivery } from "./Delivery.ts"
import type { Pool } from "./Pool.ts"

/** A job whose record is stored. */
interface Recorded {
  readonly delivery: Delivery
  /** Subject and sequence of the record. */
  readonly subject: string
  readonly sequence: number
}

/** Lets jobs go once all that follows from their end is done. */
export interface Completion {
  /** A record was stored. */
  readonly recorded: (delivery: Delivery, subject: string, sequence: number) => void
  /** A job was met that has moved on, perhaps to its end. */
  readonly met: (delivery: Delivery) => void
}

/** Most records that are looked at together. */
const mostTogether = 1_024
const patiently = Schedule.spaced("500 millis")

/** Makes it for a pool; `runFork` runs what takes longer. */
export const make = (
  pool: Pool,
  runFork: (effect: Effect.Effect<void>) => unknown,
): Completion => {
  const { engine, wire } = pool.options
  const line: Array<Recorded> = []
  let looking = false

  const met = (delivery: Delivery): void => {
    // What counts of a recurring entry isn't always what is newest; whoever acknowledges sees to it.
    const isEntry = delivery.envelope.progress.entry !== undefined
    runFork(
      (isEntry ? engine.step : engine.meet)(delivery.subject).pipe(
        Effect.tapCause((cause) => Effect.logDebug("finishing a job is tried again", cause)),
        Effect.retry(patiently),
        Effect.orDie,
        Effect.andThen(Effect.sync(() => pool.release(delivery))),
      ),
    )
  }

  const letGo = ({ delivery }: Recorded, parents: ReadonlySet<string>): void => {
    const { group, id, partition } = delivery.subject
    if (parents.has(id) || delivery.envelope.progress.batch !== undefined) return met(delivery)
    if (group !== noGroup) engine.memberEnded(partition, group)
    pool.release(delivery)
  }

  const lookAt = (partition: number, records: ReadonlyArray<Recorded>): Effect.Effect<void> =>
    Links.parentsAmong(
      wire,
      partition,
      records.map(({ delivery, sequence, subject }) => ({
        id: delivery.subject.id,
        subject,
        sequence,
      })),
    ).pipe(
      Effect.retry(patiently),
      Effect.orDie,
      Effect.map((parents) => {
        for (const record of records) letGo(record, parents)
      }),
    )

  const lookAtAll = Effect.gen(function* () {
    while (line.length > 0) {
      const partitions = new Map<number, Array<Recorded>>()
      for (const record of line.splice(0, mostTogether)) {
        const { partition } = record.delivery.subject
        const list = partitions.get(partition)
        if (list === undefined) partitions.set(partition, [record])
        else list.push(record)
      }
      yield* Effect.forEach(partitions, ([partition, records]) => lookAt(partition, records), {
        concurrency: "unbounded",
        discard: true,
      })
    }
    // In one go with the last look at the line: what is put into it from here on begins anew.
    looking = false
  })

  const recorded: Completion["recorded"] = (delivery, subject, sequence) => {
    line.push({ delivery, subject, sequence })
    if (looking) return
    looking = true
    // In a while: what else is answered now is looked at together with it.
    queueMicrotask(() => runFork(lookAtAll))
  }

  return { recorded, met }
}
