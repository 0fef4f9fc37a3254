/**
 * Looks for ready jobs that NATS would never deliver, in the queues that this server works on, and
 * puts them back. A job is rescued when two looks in a row find it below what its consumer takes for
 * done. Every server may do it: putting back is conditional, so of several one has an effect.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { NatsError } from "../src/nats/errors.ts"
import * as Orphans from "../src/nats/Orphans.ts"
import type { TopologyConflict } from "../src/nats/Topology.ts"
import type { Wire } from "../src/nats/Wire.ts"
import type { Emit } from "./Event.ts"
import type * as ChildSpec from "./kit/ChildSpec.ts"

/** What a watchdog works with. */
export interface Options {
  readonly wire: Wire
  readonly emit: Emit
  /** Queues of the server. */
  readonly queues: ReadonlyArray<string>
  /** Time between two looks; default 15 seconds. */
  readonly interval?: Duration.Input | undefined
}

/** Jobs of one lane that a round looks at; more wait for the next. */
const mostPerRound = 500

/** The watchdog of a server, as a child of its supervisor. Loss of NATS makes it wait, never fail. */
export const start = (
  { emit, interval = "15 seconds", queues, wire }: Options,
): ChildSpec.Start => {
  /** What the look before found, as `stream sequence`. */
  let suspects: ReadonlySet<string> = new Set()

  const look = Effect.gen(function* () {
    const found = new Set<string>()
    for (const queue of queues) {
      for (let partition = 0; partition < wire.partitions; partition++) {
        for (const consumer of yield* wire.ensureQueue(queue, partition)) {
          const lane = { partition, queue, consumer }
          for (const message of yield* Orphans.find(wire, lane, mostPerRound)) {
            const key = `${consumer.stream} ${message.sequence}`
            const subject = wire.subjects.parse(message.subject)
            if (!suspects.has(key)) found.add(key)
            else if (subject !== undefined && (yield* Orphans.rescue(wire, subject, message))) {
              emit({ _tag: "JobRescued", id: subject.id, queue })
              yield* Effect.logWarning(`put job ${subject.id} back: NATS had lost sight of it`)
            }
          }
        }
      }
    }
    suspects = found
  })

  const round = Effect.catch(
    look,
    (error: NatsError | TopologyConflict | Error) =>
      "_tag" in error && error._tag === "Unavailable"
        ? Effect.void
        : Effect.logWarning(`the watchdog could not look: ${error.message}`),
  )
  return Effect.succeed(Effect.forever(Effect.andThen(Effect.sleep(interval), round)))
}
