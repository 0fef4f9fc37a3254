/**
 * What a supervisor has to know of a child: how it starts, when it is restarted, how it is stopped.
 * The words and the defaults are those of OTP's `supervisor`.
 *
 * @module
 */
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { InvalidOptions } from "../../src/core/errors.ts"
import { show } from "../../src/core/Names.ts"
import { millisOf } from "../../src/core/Time.ts"

/**
 * When a child that terminated is started again: `permanent` always, `transient` only after an
 * abnormal exit, `temporary` never. Success is the normal exit; failure, defect and an interruption
 * that did not come from the supervisor are abnormal.
 */
export type Restart = "permanent" | "transient" | "temporary"

/**
 * How a child is stopped. It is interrupted and waited for: as long as the duration says (a number
 * is milliseconds), without limit for `infinity`, not at all for `brutalKill`. A child that outlives
 * its time is abandoned and reported, because a fiber can't be killed.
 */
export type Shutdown = "brutalKill" | "infinity" | Duration.Input

/** Whether a child is itself a supervisor. Decides the default of `shutdown`, and is counted. */
export type Type = "worker" | "supervisor"

/**
 * A child's life in two steps, run by one fiber in one scope of its own.
 *
 * The outer effect initialises: it acquires what the child needs, and when it completes the child
 * counts as started and the next one may start. It yields the inner effect, the rest of the life:
 * the child terminates when that ends, after the finalizers of its scope have run.
 */
export type Start<R = never> = Effect.Effect<
  Effect.Effect<unknown, unknown, R | Scope.Scope>,
  unknown,
  R | Scope.Scope
>

/**
 * One child of a supervisor.
 *
 * @example
 * ```ts ignore
 * const lease: ChildSpec<Nats> = {
 *   id: "lease",
 *   start: Effect.gen(function* () {
 *     const timer = yield* openTimer // initialisation; released when the child ends
 *     return Effect.forever(timer.tick) // the rest of its life
 *   }),
 * }
 * const loop: ChildSpec = { id: "loop", start: Effect.succeed(Effect.never) } // nothing to prepare
 * ```
 */
export interface ChildSpec<out R = never> {
  /** Name among its siblings; not empty. */
  readonly id: string
  /** Starts and runs the child. It is run afresh for every restart. */
  readonly start: Start<R>
  /** Default `permanent`. */
  readonly restart?: Restart
  /** Default 5 seconds for a worker, `infinity` for a supervisor. */
  readonly shutdown?: Shutdown
  /** Default `worker`. */
  readonly type?: Type
}

/** A child spec whatever it requires. */
export type Any = ChildSpec<unknown>

/** What the start of a child spec requires, its scope excepted. */
export type Services<Spec extends Any> = Exclude<
  | Effect.Services<Spec["start"]>
  | Effect.Services<Effect.Success<Spec["start"]>>,
  Scope.Scope
>

/** A child spec with its defaults filled in. */
export interface Resolved {
  /** As given. */
  readonly id: string
  /** As given; what it requires is provided at launch. */
  readonly start: Start<unknown>
  /** When it is restarted. */
  readonly restart: Restart
  /** Milliseconds a stop waits: 0 for `brutalKill`, `Infinity` for `infinity`. */
  readonly shutdownMillis: number
  /** Worker or supervisor. */
  readonly type: Type
}

const restarts: ReadonlyArray<unknown> = ["permanent", "transient", "temporary"]
const types: ReadonlyArray<unknown> = ["worker", "supervisor"]

const shutdownMillis = (field: string, shutdown: Shutdown): number | InvalidOptions => {
  if (shutdown === "brutalKill") return 0
  if (shutdown === "infinity" || shutdown === "Infinity") return Infinity
  if (Duration.isDuration(shutdown) && !Duration.isFinite(shutdown)) return Infinity
  return millisOf(field, shutdown)
}

/** Checks a child spec and fills in the defaults; `field` is how errors name it. */
export const resolve = (spec: Any, field: string): Resolved | InvalidOptions => {
  const refuse = (key: string, value: unknown, reason: string): InvalidOptions =>
    new InvalidOptions({ field: `${field}.${key}`, value: show(value), reason })
  const { id, restart = "permanent", start, type = "worker" } = spec
  if (typeof id !== "string" || id === "") return refuse("id", id, "an id is a text, not empty")
  if (!restarts.includes(restart)) {
    return refuse("restart", restart, `it is one of ${restarts.join(", ")}`)
  }
  if (!types.includes(type)) return refuse("type", type, `it is one of ${types.join(", ")}`)
  const millis = shutdownMillis(
    `${field}.shutdown`,
    spec.shutdown ?? (type === "worker" ? "5 seconds" : "infinity"),
  )
  if (typeof millis !== "number") return millis
  return { id, start, restart, shutdownMillis: millis, type }
}
