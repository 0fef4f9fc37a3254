/** Runs a handler once and says how it ended: from a delivery to an `Ended` value. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { CurrentJob } from "../src/client/CurrentJob.ts"
import type { Definition } from "../src/client/Definition.ts"
import * as Unlock from "../src/client/Unlock.ts"
import type { Wire } from "../src/nats/Wire.ts"
import { describe, type Ending } from "../src/core/Attempt.ts"
import type { Keyring } from "../src/core/Encryption.ts"
import { inputOf } from "../src/core/Envelope.ts"
import { maxMessageLength, payloadLimit } from "../src/core/Limits.ts"
import { Discard, Snooze, Veto } from "../src/core/Signal.ts"
import { rfc3339 } from "../src/core/Time.ts"
import type { Delivery } from "./Delivery.ts"
import { RunningJob } from "./RunningJob.ts"
import type { ReadyHandler } from "./Pool.ts"

/** How an attempt ended. */
export interface Ended {
  readonly ending: Ending
  readonly message?: string | undefined
  readonly stack?: string | undefined
  /** The typed error, in bytes. */
  readonly error?: Uint8Array | undefined
  /** The typed error itself, for the retry policy. */
  readonly failure?: { readonly value: unknown } | undefined
  /** The result, in bytes. */
  readonly result?: Uint8Array | undefined
  /** When a snoozed job wants to run again, in ms from now. */
  readonly snooze?: number | undefined
  /** Whether trying again can't help: the input itself is the trouble. */
  readonly hopeless?: boolean | undefined
}

const crashed = (error: unknown): Ended => ({ ending: "crashed", ...describe(error) })

/** Largest typed error that is kept with an attempt, in bytes. */
const maxErrorBytes = 16 * 1024

const succeed = (
  definition: Definition,
  value: unknown,
  maxPayload: number,
): Effect.Effect<Ended> =>
  Effect.match(definition.success.encode(value), {
    onSuccess: (bytes): Ended => {
      const limit = payloadLimit(maxPayload)
      return bytes.length <= limit ? { ending: "succeeded", result: bytes } : {
        ending: "crashed",
        message: `the result takes ${bytes.length} bytes, the limit is ${limit}; ` +
          "store large data elsewhere and return a reference",
      }
    },
    onFailure: ({ path, reason }): Ended => ({
      ending: "crashed",
      message: `result${path} does not match its schema: ${reason}`,
    }),
  })

const fail = (
  definition: Definition,
  value: unknown,
): Effect.Effect<Ended> =>
  Effect.match(definition.error.encode(value), {
    onSuccess: (bytes): Ended => ({
      ending: "failed",
      ...describe(value),
      ...(bytes.length > 0 && bytes.length <= maxErrorBytes ? { error: bytes } : {}),
      failure: { value },
    }),
    onFailure: ({ path, reason }): Ended => ({
      ending: "failed",
      ...describe(value),
      message: `${describe(value).message} (error${path} does not match its schema: ${reason})`
        .slice(0, maxMessageLength),
      failure: { value },
    }),
  })

const readCause = (
  definition: Definition,
  cause: Cause.Cause<unknown>,
): Effect.Effect<Ended> => {
  const error = Cause.squash(cause)
  if (error instanceof Discard) {
    return Effect.succeed({ ending: "discarded", message: error.reason.slice(0, maxMessageLength) })
  }
  if (error instanceof Veto) {
    return Effect.succeed({ ending: "vetoed", message: error.reason.slice(0, maxMessageLength) })
  }
  if (error instanceof Snooze) return Effect.succeed({ ending: "snoozed", snooze: error.millis })
  if (Cause.hasFails(cause)) return fail(definition, error)
  return Effect.succeed(
    Cause.hasInterruptsOnly(cause)
      ? { ending: "crashed", message: "the handler interrupted itself" }
      : crashed(error),
  )
}

/** How a handler's effect ends. */
export const endOf = (
  self: Effect.Effect<unknown, unknown>,
  definition: Definition,
  maxPayload: number,
): Effect.Effect<Ended> =>
  Effect.matchCauseEffect(self, {
    onSuccess: (value) => succeed(definition, value, maxPayload),
    onFailure: (cause) => readCause(definition, cause),
  })

/** How long an attempt may take, and what it means when it takes longer. */
export interface Limit {
  readonly millis: number
  readonly message: string
  /** Whether no other attempt can follow. */
  readonly hopeless: boolean
  /** The deadline of the job, where it comes after the time limit of the attempt. */
  readonly deadline?: Limit | undefined
}

/** The nearer one of an attempt's own time limit, in ms, and of its job's deadline. */
export const limitOf = (
  timeout: number | undefined,
  deadline: number | undefined,
  now: number,
): Limit | undefined => {
  const last: Limit | undefined = deadline === undefined ? undefined : {
    millis: Math.max(0, deadline - now),
    message: `the job wasn't finished by its deadline, ${rfc3339(deadline)}`,
    hopeless: true,
  }
  if (timeout === undefined || last !== undefined && last.millis <= timeout) return last
  const message = `the attempt took longer than its limit of ${timeout} ms`
  return { millis: timeout, message, hopeless: false, deadline: last }
}

/** Ends when a limit is reached; for the time limit, waiting for a worker of its own doesn't count. */
const reached = (limit: Limit): Effect.Effect<Limit, never, CurrentJob> => {
  const sleeping = (one: Limit) => Effect.as(Effect.sleep(one.millis), one)
  if (limit.hopeless) return sleeping(limit)
  const own = Effect.gen(function* () {
    const job = yield* CurrentJob
    const waited = () => job instanceof RunningJob ? job.waitedMillis : 0
    let left = limit.millis
    for (let before = 0; left >= 1; before += left) {
      yield* Effect.sleep(left)
      left = waited() - before
    }
    return limit
  })
  return limit.deadline === undefined ? own : Effect.raceFirst(own, sleeping(limit.deadline))
}

const timedOut = ({ hopeless, message }: Limit): Ended => ({
  ending: "timedOut",
  message,
  hopeless,
})

/**
 * The attempt as an effect, with everything provided. It ends with an `Ended` value whatever the
 * handler does; only an interruption from outside leaves it without one.
 */
export const attempt = (
  delivery: Delivery,
  handler: ReadyHandler,
  limit: Limit | undefined,
  maxPayload: number,
  keyring: Keyring | undefined,
): Effect.Effect<Ended> => {
  const unlocking = delivery.unlocked === undefined
    ? Unlock.unlockInput(keyring, delivery.envelope)
    : undefined
  if (unlocking !== undefined) {
    return Effect.matchEffect(unlocking, {
      onFailure: ({ reason }) =>
        Effect.succeed<Ended>({
          ending: "crashed",
          message: `what it was given can't be decrypted: ${reason}`,
          hopeless: true,
        }),
      onSuccess: (unlocked) => {
        delivery.unlocked = unlocked
        return attempt(delivery, handler, limit, maxPayload, keyring)
      },
    })
  }
  const envelope = delivery.unlocked ?? delivery.envelope
  const { options: { version = 1 } } = envelope
  const payload = inputOf(envelope)
  if (payload === undefined) {
    return Effect.succeed({
      ending: "crashed",
      message: "it takes the result of a job that gave none, or one that was too large to pass on",
      hopeless: true,
    })
  }
  const body = Effect.matchEffect(handler.definition.payload.decode(payload, version), {
    onFailure: ({ path, reason }) =>
      Effect.succeed<Ended>({
        ending: "crashed",
        message: `payload${path} does not match its schema: ${reason}`,
        hopeless: true,
      }),
    onSuccess: (payload) => endOf(handler.run(payload), handler.definition, maxPayload),
  })
  if (limit === undefined) return body
  if (handler.definition.isolation !== undefined) {
    return Effect.raceFirst(body, Effect.map(reached(limit), timedOut)) as Effect.Effect<Ended>
  }
  return Effect.map(
    Effect.timeoutOption(body, limit.millis),
    Option.getOrElse(() => timedOut(limit)),
  )
}

const said: ReadonlySet<Ending> = new Set(["failed", "crashed", "discarded", "vetoed"])

/** How an attempt ended, with what its handler has said and given encrypted. */
export const sealed = (
  ended: Ended,
  keyring: Keyring,
  about: { readonly name: string; readonly id: string },
): Effect.Effect<Ended> => {
  if (ended.result !== undefined) {
    return Effect.map(
      keyring.seal(ended.result, { kind: "result", ...about }),
      (result) => ({ ...ended, result }),
    )
  }
  return said.has(ended.ending)
    ? Effect.map(Unlock.sealWhy(keyring, about, ended), (why) => ({ ...ended, ...why }))
    : Effect.succeed(ended)
}

/** Services that each attempt gets beside its handler's: the current job, and a scope of its own. */
export const services = (
  delivery: Delivery,
  handler: ReadyHandler,
  server: string,
  scope: Scope.Scope,
  wire: Wire,
): Context.Context<never> => {
  const job = new RunningJob(delivery, handler.definition, server, wire)
  return Context.add(
    Context.add(handler.context, CurrentJob, job),
    Scope.Scope,
    scope,
  ) as Context.Context<
    never
  >
}

/** What an attempt's exit says; `undefined` when it was interrupted from outside. */
export const readExit = (exit: Exit.Exit<Ended, never>): Ended | undefined =>
  Exit.isSuccess(exit)
    ? exit.value
    : Cause.hasInterruptsOnly(exit.cause)
    ? undefined
    : crashed(Cause.squash(exit.cause))
