/**
 * Writes outcomes. It takes whatever is settled, publishes the transitions in one pipeline,
 * acknowledges as they are answered, and takes what has come in the meantime: the busier it is, the
 * more each round carries.
 *
 * Nothing is acknowledged before its transition is stored. An outcome that can't be stored stays
 * held, its lease alive, until it can; one that somebody else forestalled is dropped (W4).
 */
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import * as Bytes from "../src/core/Bytes.ts"
import { finalStates } from "../src/core/JobState.ts"
import { releaseClaim } from "../src/nats/Claims.ts"
import { Code } from "../src/nats/errors.ts"
import type { Ack } from "../src/nats/Publisher.ts"
import { newestAtLeader } from "../src/nats/Reader.ts"
import { jobsStream } from "../src/nats/Subjects.ts"
import * as Completion from "./Completion.ts"
import type { Delivery } from "./Delivery.ts"
import type * as ChildSpec from "./kit/ChildSpec.ts"
import type { Pool } from "./Pool.ts"

/** Most outcomes of one round. */
const roundSize = 1_024
const againAfter = "500 millis"
/** Kinds of transitions that end a job. */
const finals: ReadonlySet<string> = new Set(finalStates)
/** Codes of a refusal for size: by the client before it sends, and by the stream. */
const tooLarge: ReadonlySet<number> = new Set([0, Code.messageTooLarge])

/** The committer of a pool, as a child of its supervisor. */
export const start = (pool: Pool): ChildSpec.Start =>
  Effect.gen(function* () {
    const { emit, interest, wire } = pool.options
    const { nats, publisher, subjects } = wire
    const runFork = yield* FiberSet.makeRuntime<never>()
    const latch = Latch.makeUnsafe(true)
    const completion = Completion.make(pool, runFork)

    const again = (delivery: Delivery): Effect.Effect<void> =>
      Effect.andThen(
        Effect.sleep(againAfter),
        Effect.sync(() => {
          pool.settled.push(delivery)
          latch.openUnsafe()
        }),
      )

    const stored = (delivery: Delivery, sequence: number) => {
      const { attempt, due, kind, reason, subject } = delivery.transition as NonNullable<
        Delivery["transition"]
      >
      if (finals.has(kind)) {
        delivery.recorded = true
        interest.ended(delivery.subject.id)
        const { claim } = delivery.envelope.progress
        // Nobody waits for it: one that stays is taken over by whoever wants the key next.
        if (claim !== undefined) Effect.runFork(releaseClaim(wire, delivery.subject, claim))
        completion.recorded(delivery, subject, sequence)
      } else pool.release(delivery)
      emit({
        _tag: "JobMoved",
        id: delivery.subject.id,
        name: delivery.envelope.name,
        queue: delivery.subject.queue,
        to: kind,
        attempt,
        due,
        reason,
      })
    }

    const lost = (delivery: Delivery) => {
      completion.met(delivery)
      emit({
        _tag: "OutcomeLost",
        id: delivery.subject.id,
        name: delivery.envelope.name,
        to: delivery.transition?.kind ?? "returned",
      })
    }

    /** A conflict decides nothing until the leader was asked what is newest. */
    const look = (delivery: Delivery): Effect.Effect<void> =>
      newestAtLeader(
        nats.connection,
        jobsStream(subjects.namespace, delivery.subject.partition),
        subjects.job(delivery.subject),
      ).pipe(
        Effect.retry(Schedule.spaced(againAfter)),
        Effect.orDie,
        Effect.flatMap((newest) => {
          if (newest?.sequence === delivery.message.sequence) return again(delivery)
          // An earlier try of this very transition, whose answer got lost, perhaps with a committer.
          const own = newest !== undefined &&
            newest.subject === delivery.transition?.subject &&
            Bytes.same(newest.data, delivery.transition.payload)
          return Effect.sync(() => own ? stored(delivery, newest.sequence) : lost(delivery))
        }),
      )

    const refused = (
      delivery: Delivery,
      code: number,
      description: string,
    ): Effect.Effect<void> => {
      emit({ _tag: "CommitRefused", id: delivery.subject.id, code, description })
      const { transition } = delivery
      const [less, ...smaller] = transition?.smaller ?? []
      if (transition !== undefined && less !== undefined && tooLarge.has(code)) {
        delivery.transition = { ...transition, payload: less(), smaller }
      }
      return again(delivery)
    }

    const answered = (delivery: Delivery, ack: Ack): void => {
      // What a committer before this one has begun may be answered to both.
      if (!pool.held.has(delivery) || delivery.recorded) return
      switch (ack._tag) {
        case "Stored":
          return stored(delivery, ack.sequence)
        case "Conflict":
          runFork(look(delivery))
          return
        case "Refused":
          runFork(refused(delivery, ack.code, ack.description))
          return
        case "Unknown":
          // The publisher is closed: the process is going, and the lease with it.
          return
      }
    }

    /** Publishes outcomes in one pipeline; ends when each is answered. */
    const commit = (outcomes: ReadonlyArray<Delivery>): Effect.Effect<void> =>
      Effect.callback((resume) => {
        let left = outcomes.length
        let over = false
        for (const delivery of outcomes) {
          const { headers, payload, subject } = delivery.transition as NonNullable<
            Delivery["transition"]
          >
          const expected = delivery.message.sequence
          const filter = subjects.job(delivery.subject)
          publisher.publish({ subject, payload, headers, expected, filter }, (ack) => {
            if (over) return
            try {
              answered(delivery, ack)
            } catch (error) {
              return resume(Effect.die(error))
            }
            if (--left === 0) resume(Effect.void)
          })
        }
        return Effect.sync(() => {
          over = true
        })
      })

    const round = Effect.gen(function* () {
      yield* latch.await
      const outcomes = pool.settled.splice(0, roundSize)
      if (pool.settled.length === 0) latch.closeUnsafe()
      if (outcomes.length === 0) return
      yield* commit(outcomes)
      pool.onRoom()
    })

    yield* Effect.acquireRelease(
      Effect.sync(() => {
        pool.onSettled = () => latch.openUnsafe()
        pool.onMet = completion.met
        // A committer before this one may have left outcomes that are in no line.
        const settled = [...pool.held].filter((delivery) => delivery.phase === "settled")
        const isDone = ({ recorded, transition }: Delivery) => recorded || transition === undefined
        pool.settled = settled.filter((delivery) => !isDone(delivery))
        for (const delivery of settled.filter(isDone)) completion.met(delivery)
      }),
      () =>
        Effect.sync(() => {
          pool.onSettled = () => {}
          pool.onMet = () => {}
        }),
    )
    // While one round is on its way, the next is made up.
    return Effect.all([Effect.forever(round), Effect.forever(round)], { concurrency: 2 })
  })
