/**
 * The part of the engine that clients and servers share: what ends of jobs mean for others. One per
 * connection; it looks after batches whose members end in this process.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { placeOf } from "../core/Envelope.ts"
import type { JobId } from "../core/JobId.ts"
import { fromWire } from "../core/JobState.ts"
import * as Waits from "../core/Waits.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import { isRecord, type JobMessage, parse, stateOf } from "../nats/Records.ts"
import { announceEnded } from "../nats/Notices.ts"
import type { Address } from "../nats/Subjects.ts"
import * as Wire from "../nats/Wire.ts"
import * as Batches from "./Batches.ts"
import * as Continuations from "./Continuations.ts"
import * as EntryMessage from "./EntryMessage.ts"
import * as EntryStep from "./EntryStep.ts"
import * as Finish from "./Finish.ts"
import * as Interception from "./Interception.ts"
import type { Transition } from "./Middleware.ts"
import * as Moves from "./Moves.ts"
import { Patience } from "./Writer.ts"

/** See the module. */
export interface Engine extends Finish.Finish {
  /** Looks after a job that awaits something, when its alarm has fired. */
  readonly step: (job: Address) => Effect.Effect<void, NatsError>
  /** Cancels a job that awaits one which doesn't exist. */
  readonly cancelFor: (child: Address, parent: string) => Effect.Effect<void, NatsError>
  readonly batches: Batches.Batches
  /** Looks after a recurring entry: makes the runs that are due. */
  readonly entryStep: EntryStep.EntryStep
  /** A member of a batch has ended: its batch is looked at soon. */
  readonly memberEnded: (partition: number, batch: string) => void
}

/** The engine as a service. */
export const Engine: Context.Service<Engine, Engine> = Context.Service<Engine>(
  "portfire/client/Engine",
)

/** What is told of a job that awaited others and was given a next message; nothing if it still does. */
export const transitionOf = (
  job: { readonly id: JobId; readonly name: string; readonly queue: string },
  { due, reason, to }: Moves.Move,
): Transition | undefined =>
  to === "await" ? undefined : {
    ...job,
    from: "awaiting",
    to: fromWire(to),
    due: due === undefined ? undefined : new Date(due),
    reason,
  }

/** Time in which endings of one batch's members are gathered into one look. */
const gatherMillis = 20
/** Time between two looks at a batch of which many members live. */
const againMillis = 200
/** A look at thousands of members keeps the stream from other work: rest that many times as long. */
const restPerLook = 20
const longestRestMillis = 500
/** What took long because the machine is busy is no reason to rest long: few members cost little. */
const membersPerMilli = 200
/** How long a batch is looked at after the last of its members ended here: copies are removed then. */
const lingerMillis = 2_000
/** How long a process that stops goes on looking at batches whose members ended there. */
const lastLooksMillis = 2_000

interface Looking {
  /** When a member last ended, on the monotonic clock. */
  ended: number
  /** Whether one has ended since the last look began. */
  again: boolean
}

const make = Effect.gen(function* () {
  const wire = yield* Wire.Wire
  const patience = yield* Patience
  const interception = yield* Interception.Interception
  const lookers = yield* FiberSet.make<unknown, never>()
  const runFork = yield* FiberSet.runtime(lookers)()
  const looking = new Map<string, Looking>()
  let closing = false
  // Nobody else knows yet that these batches may be done: they would wait for their alarm.
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      closing = true
      return Effect.timeoutOption(FiberSet.awaitEmpty(lookers), lastLooksMillis)
    })
  )

  const lookUntilDone = Effect.fnUntraced(function* (id: string, batch: Looking) {
    let address: Address | undefined
    do {
      yield* Effect.sleep(gatherMillis)
      batch.again = false
      address ??= (yield* JobView.find(wire, id))?.address
      if (address === undefined) return
      const [took, { again, total }] = yield* Effect.timed(batches.look(address))
      const longest = Math.min(longestRestMillis, total / membersPerMilli)
      const rest = closing ? 0 : Math.min(longest, Duration.toMillis(took) * restPerLook)
      const lingers = again && !closing && performance.now() - batch.ended <= lingerMillis
      yield* Effect.sleep(lingers ? Math.max(againMillis, rest) : rest)
      if (!lingers) continue
      batch.again = true
    } while (batch.again)
  })

  const memberEnded: Engine["memberEnded"] = (partition, id) => {
    const key = `${partition}.${id}`
    const known = looking.get(key)
    if (known !== undefined) {
      known.ended = performance.now()
      known.again = true
      return
    }
    const batch: Looking = { ended: performance.now(), again: false }
    looking.set(key, batch)
    runFork(
      lookUntilDone(id, batch).pipe(
        // The alarm of the batch looks again, should this one never come to an end.
        Effect.retry({
          while: ({ _tag }) => _tag === "Unavailable",
          schedule: Schedule.spaced("500 millis"),
        }),
        Effect.catch((error) => Effect.logWarning(`looking at batch ${id}: ${error.message}`)),
        Effect.ensuring(Effect.sync(() => {
          looking.delete(key)
          if (batch.again) memberEnded(partition, id)
        })),
      ),
    )
  }

  const moved: Finish.Hooks["moved"] = ({ envelope, subject: { id } }, move) => {
    if (!interception.isWatched()) return
    const { queue } = placeOf(envelope)
    const transition = transitionOf({ id, name: envelope.name, queue }, move)
    if (transition !== undefined) interception.notify(transition)
  }

  const batches: Batches.Batches = Batches.make(wire, patience, {
    finish: () => finish,
    memberEnded,
  })
  const finish: Finish.Finish = Finish.make(wire, patience, {
    memberEnded,
    batchCancelled: batches.cancelMembers,
    moved,
  })

  const cancelFor: Engine["cancelFor"] = Effect.fnUntraced(function* (child, parent) {
    while (true) {
      const view = yield* JobView.at(wire, child)
      if (view === undefined || stateOf(view.current) !== "awaiting") return
      const { waits } = view.current.envelope.progress
      if (waits === undefined || !Waits.waitsFor(waits, parent)) return
      const now = wire.clock.now()
      const reason = `job ${parent}, which it was to follow, does not exist`
      const move = Moves.ended(wire.subjects, view.current, "cancelled", { ended: now, reason })
      const sequence = yield* Moves.write(wire, view, move, patience)
      if (sequence === undefined) continue
      moved(view.current, move)
      announceEnded(wire, [child.id])
      return yield* finish.finish(Moves.storedAs(wire, view, move, sequence, now))
    }
  })

  /** Links a staged job to what it follows, and lets it go. */
  const settle = Effect.fnUntraced(function* (
    job: Address,
    before: JobMessage,
  ): Effect.fn.Return<void, NatsError> {
    while (true) {
      const { missing: [missing], move: next } = yield* Continuations.settle(wire, job, patience)
      if (next !== undefined) moved(before, next)
      if (next?.to === "cancelled") announceEnded(wire, [job.id])
      if (missing === undefined) return
      // A run of a recurring entry follows earlier ones however they end, so also one that is gone.
      if (before.envelope.options.recurring === undefined) return yield* cancelFor(job, missing)
      yield* finish.strikeOff(job, missing, { state: "succeeded" })
    }
  })

  const entryStep = EntryStep.make(wire, patience, {
    created: interception.notify,
    queued: (run) => step(run),
  })

  const step: Engine["step"] = Effect.fnUntraced(function* (job) {
    const found = yield* JobView.messagesAt(wire, job)
    // Before anything else: the record of bytes that nobody could read says nothing of the entry.
    if (EntryMessage.isAt(parse(wire.subjects, found))) return yield* entryStep(job, found)
    const view = JobView.viewIn(wire.subjects, found)
    if (view === undefined) return
    const { current } = view
    if (isRecord(current.subject)) return yield* finish.finish(current)
    const { batch, waits } = current.envelope.progress
    if (batch !== undefined) {
      yield* batches.tick(job)
      // Should somebody else end it meanwhile and die, there is no other message that leads to it.
      yield* finish.meet(job)
      return
    }
    if (waits?.staged !== true) return
    // Its author has died, or is slow: what is left of its work is done here.
    yield* settle(job, current)
  })
  return Engine.of({ ...finish, batches, cancelFor, entryStep, memberEnded, step })
})

/** Provides the engine's shared part on a namespace. */
export const layer: Layer.Layer<Engine, never, Wire.Wire> = Layer.effect(Engine, make).pipe(
  Layer.provide(Interception.layer),
)
