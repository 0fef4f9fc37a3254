/**
 * Starts attempts as slots become free and turns their ends into transitions. A worker is one fiber
 * for one attempt; a crash of a handler is an outcome, not a crash of this actor.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as KeptAttempt from "../src/core/Attempt.ts"
import * as Bounces from "../src/core/Bounces.ts"
import * as Expiry from "../src/core/Expiry.ts"
import { maxLostLeases } from "../src/core/Limits.ts"
import * as Retry from "../src/core/Retry.ts"
import { millisOf } from "../src/core/Time.ts"
import { releaseClaim } from "../src/nats/Claims.ts"
import { engineQueue } from "../src/nats/Subjects.ts"
import * as Attempt from "./Attempt.ts"
import type { Delivery } from "./Delivery.ts"
import type * as ChildSpec from "./kit/ChildSpec.ts"
import type { Pool, ReadyHandler } from "./Pool.ts"
import * as Transition from "../src/client/Transition.ts"
import * as Unlock from "../src/client/Unlock.ts"

const stepAgain = Schedule.spaced("500 millis")

/**
 * Whether the alarm of a job that awaits something has fired: it is looked after, not run. Commands
 * that follow other jobs have no alarm: when they get here, their turn has come.
 */
const isStep = ({ envelope: { name, progress }, subject }: Delivery): boolean =>
  subject.queue === engineQueue &&
  (progress.batch !== undefined || progress.entry !== undefined ||
    (progress.waits !== undefined && !name.startsWith("_")))

/** The workers of a pool, as a child of its supervisor. */
export const start = (pool: Pool): ChildSpec.Start =>
  Effect.gen(function* () {
    const { emit, engine, handlers, isolation, server, slots, wire } = pool.options
    const { clock, encryption, nats, subjects } = wire
    const bounced = Bounces.make()
    let dispatching = false

    const settle = (delivery: Delivery, transition: Transition.Transition) => {
      delivery.transition = transition
      pool.settle(delivery)
    }

    /** To a newer server, byte for byte, whatever that costs. */
    const leftAlone = (delivery: Delivery): Transition.Transition => {
      const { message: { data }, subject: { id } } = delivery
      const due = clock.now() + bounced(id, data)
      const later = Transition.later(subjects, delivery, "unknown", { due })
      return { ...later, payload: data, smaller: [] }
    }

    /** What becomes of a job that isn't run here at all. */
    const refuse = (delivery: Delivery): Transition.Transition | undefined => {
      const { alone, envelope, lost, unreadable } = delivery
      const unknown = () => {
        const delay = Math.min(300_000, 1_000 * 2 ** Math.min(20, envelope.progress.unknown))
        return Transition.later(subjects, delivery, "unknown", { due: clock.now() + delay })
      }
      if (unreadable !== undefined) {
        // A newer engine's message goes on as it is, for a newer server.
        return unreadable.newer ? leftAlone(delivery) : Transition.final(
          subjects,
          delivery,
          "failed",
          {
            ended: clock.now(),
            counts: false,
            reason: `its message can't be read: ${unreadable.reason}`,
          },
        )
      }
      // What waits for something is looked after, whoever knows its name.
      if (isStep(delivery)) return undefined
      const expired = Expiry.expiredAt(envelope, clock, lost)
      if (expired !== undefined) {
        const { reason, state } = expired
        return Transition.final(subjects, delivery, state, {
          ended: clock.now(),
          counts: false,
          reason,
        })
      }
      const handler = handlers.get(envelope.name)
      if (handler === undefined) return unknown()
      // A server with the key can.
      if (delivery.missingKey === undefined) {
        delivery.missingKey = Unlock.missingKey(encryption, envelope) ?? null
      }
      if (delivery.missingKey !== null) return unknown()
      // A newer server can read it.
      if ((envelope.options.version ?? 1) > handler.definition.version) return unknown()
      if (lost >= maxLostLeases) {
        return Transition.final(subjects, delivery, "failed", {
          ended: clock.now(),
          counts: false,
          reason: `its server was lost ${lost} times while it held the job; ` +
            "it seems to kill the process that runs it",
        })
      }
      return alone && lost > envelope.progress.lost
        ? Transition.giveBack(subjects, delivery, "isolated")
        : undefined
    }

    const retryAfter = (
      delivery: Delivery,
      { definition }: ReadyHandler,
      ended: Attempt.Ended,
    ): number | undefined => {
      if (ended.hopeless === true) return undefined
      const { options, progress } = delivery.envelope
      const backoff = options.retry ?? definition.retry.backoff
      const delay = Retry.delayAfter(backoff, progress.attempts + 1, Math.random())
      const decide = definition.retry.decide as
        | ((error: unknown, n: number) => Retry.Decision)
        | undefined
      if (delay === undefined || ended.failure === undefined || decide === undefined) return delay
      const decision = decide(ended.failure.value, delivery.attempt)
      if (typeof decision === "boolean") return decision ? delay : undefined
      const millis = millisOf("retry.decide", decision)
      if (typeof millis !== "number") throw millis
      return millis
    }

    const transitionOf = (
      delivery: Delivery,
      handler: ReadyHandler,
      ended: Attempt.Ended,
    ): Transition.Transition => {
      const now = clock.now()
      const { ending, error, message, stack } = ended
      const attempt: KeptAttempt.Attempt = {
        number: delivery.attempt,
        server,
        started: delivery.started,
        ended: now,
        ending,
        message,
        stack,
        error,
      }
      if (ending === "succeeded") {
        const { result } = ended
        return Transition.final(subjects, delivery, "succeeded", {
          ended: now,
          attempt,
          counts: true,
          result,
        })
      }
      const failed = (reason: string | undefined) =>
        Transition.final(subjects, delivery, "failed", {
          ended: now,
          attempt,
          counts: ending !== "snoozed",
          reason,
        })
      const again = (kind: "snoozed" | "retrying", delay: number) => {
        const due = clock.now() + delay
        const deadline = Expiry.deadlineOf(delivery.envelope)
        const last = message ?? delivery.envelope.progress.history.at(-1)?.message
        return deadline !== undefined && due >= deadline
          ? failed(Expiry.tooLateAgain(deadline, last))
          : Transition.later(subjects, delivery, kind, { due, attempt })
      }
      if (ending === "snoozed") return again("snoozed", ended.snooze ?? 0)
      if (ending === "discarded") return failed(message)
      if (ending === "vetoed") {
        return Transition.final(subjects, delivery, "cancelled", {
          ended: now,
          attempt,
          counts: false,
          reason: message,
        })
      }
      try {
        const delay = retryAfter(delivery, handler, ended)
        return delay === undefined ? failed(message) : again("retrying", delay)
      } catch (defect) {
        const { message: why } = KeptAttempt.describe(defect)
        return failed(`${message ?? ""} (the retry policy threw: ${why})`)
      }
    }

    const begin = (delivery: Delivery, handler: ReadyHandler) => {
      const { envelope, message, subject } = delivery
      pool.running++
      isolation.enter(delivery)
      delivery.phase = "running"
      delivery.started = clock.now()
      emit({
        _tag: "AttemptStarted",
        id: subject.id,
        name: envelope.name,
        queue: subject.queue,
        attempt: delivery.attempt,
        delivery: message.deliveries,
      })
      const { claim } = envelope.progress
      if (claim?.until === "started") Effect.runFork(releaseClaim(wire, subject, claim))
      const scope = Scope.makeUnsafe()
      const context = Attempt.services(delivery, handler, server, scope, wire)
      const limit = Attempt.limitOf(
        envelope.options.timeout ?? handler.definition.timeout,
        Expiry.deadlineOf(envelope),
        delivery.started,
      )
      const { maxPayload } = nats.server()
      const { name } = envelope
      const { id } = subject
      const attempt = Effect.suspend(() =>
        Attempt.attempt(delivery, handler, limit, maxPayload, encryption)
      )
      const fiber = Effect.runForkWith(context)(
        Effect.onExit(
          encryption === undefined || !Unlock.isSealed(name)
            ? attempt
            : Effect.flatMap(attempt, (ended) => Attempt.sealed(ended, encryption, { name, id })),
          (exit) => Scope.closeUnsafe(scope, exit) ?? Effect.void,
        ),
      )
      delivery.fiber = fiber
      fiber.addObserver((exit) => {
        pool.running--
        delivery.fiber = undefined
        delivery.journal?.end()
        const ended = Attempt.readExit(exit)
        if (delivery.voided) pool.meet(delivery)
        else if (ended === undefined) {
          settle(
            delivery,
            Transition.giveBack(subjects, delivery, "returned", { begun: true }),
          )
        } else if (handler.silent === true && ended.ending === "succeeded") pool.release(delivery)
        else settle(delivery, transitionOf(delivery, handler, ended))
        isolation.leave(delivery)
        dispatch()
        pool.onRoom()
        pool.onLess()
      })
    }

    /** Looks after a job that awaits something, until that is done or the server stops. */
    const beginStep = (delivery: Delivery) => {
      pool.running++
      isolation.enter(delivery)
      delivery.phase = "running"
      const isEntry = delivery.envelope.progress.entry !== undefined
      const fiber = Effect.runFork(
        Effect.retry(engine.step(delivery.subject), {
          schedule: stepAgain,
          while: ({ _tag }) => !isEntry || _tag === "Unavailable",
        }),
      )
      delivery.fiber = fiber
      fiber.addObserver((exit) => {
        pool.running--
        delivery.fiber = undefined
        if (exit._tag === "Success") pool.release(delivery)
        else if (isEntry && !Cause.hasInterrupts(exit.cause)) {
          // Not in a slot of ours: others would wait for what NATS doesn't take.
          const due = clock.now() + wire.alarmMillis
          settle(delivery, Transition.later(subjects, delivery, "unknown", { due }))
          const { id } = delivery.subject
          const { message } = KeptAttempt.describe(Cause.squash(exit.cause))
          Effect.runFork(Effect.logWarning(`recurring entry in message ${id}: ${message}`))
        } else settle(delivery, Transition.giveBack(subjects, delivery, "returned"))
        isolation.leave(delivery)
        dispatch()
        pool.onRoom()
        pool.onLess()
      })
    }

    const dispatch = () => {
      // An attempt that ends at once comes back here from within the loop.
      if (dispatching || pool.draining) return
      dispatching = true
      try {
        for (let at = 0; at < pool.waiting.length;) {
          const delivery = pool.waiting[at] as Delivery
          const refusal = refuse(delivery)
          if (refusal !== undefined) {
            pool.waiting.splice(at, 1)
            // It may have expired while it waited for the process to be empty.
            isolation.forget(delivery)
            settle(delivery, refusal)
            continue
          }
          if (isolation.open) {
            if (pool.running >= slots) break
            if (delivery.alone) {
              isolation.want(delivery)
              at = 0
              continue
            }
          } else if (!isolation.isWanted(delivery)) {
            pool.waiting.splice(at, 1)
            pool.giveBack(delivery)
            continue
          } else if (!isolation.granted) {
            at++
            continue
          }
          pool.waiting.splice(at, 1)
          if (pool.isDoubtful(delivery)) {
            pool.checkAgain(delivery)
            continue
          }
          const handler = handlers.get(delivery.envelope.name)
          if (isStep(delivery)) beginStep(delivery)
          else if (handler !== undefined) begin(delivery, handler)
          at = 0
        }
      } finally {
        dispatching = false
      }
    }

    yield* Effect.acquireRelease(
      Effect.sync(() => {
        pool.onWaiting = dispatch
        return isolation.onChange(() => {
          dispatch()
          pool.onRoom()
        })
      }),
      (stopListening) =>
        Effect.suspend(() => {
          pool.onWaiting = () => {}
          stopListening()
          return pool.interruptAll
        }),
    )
    dispatch()
    return Effect.never
  })
