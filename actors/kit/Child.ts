/**
 * One supervised child as its supervisor sees it, and the two acts on it: launch and stop.
 *
 * States: terminated → starting → running → terminated | restarting; restarting → starting. Only the
 * supervisor's own fiber changes them.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as ChildSpec from "./ChildSpec.ts"
import * as Report from "./Report.ts"

/** Where a child is in its life. */
export type Status = "starting" | "running" | "restarting" | "terminated"

/** A child with a fiber. Each launch makes a new one, so that a late exit is told from a fresh one. */
export interface Alive {
  readonly _tag: "alive"
  /** Runs the child's life, its scope included. */
  readonly fiber: Fiber.Fiber<unknown, unknown>
  /** Whether it has initialised. */
  started: boolean
}

/** A child without a fiber that waits for its restart. */
export interface Restarting {
  readonly _tag: "restarting"
}

/** A child without a fiber that nothing will start unasked. */
export interface Terminated {
  readonly _tag: "terminated"
}

/** Takes a report from which only the supervisor's own fields are missing. */
export type Tell = (
  report: Report.Report extends infer R ? R extends Report.Report ? Omit<R, keyof Report.Base>
    : never
    : never,
) => void

/** One child. */
export interface Child {
  /** What it is. */
  readonly spec: ChildSpec.Resolved
  /** What its fiber runs with: all services of whoever gave the spec, and the supervisor as parent. */
  readonly context: Context.Context<unknown>
  /** Where it is in its life. Messages hold the state they are about, to be known when stale. */
  state: Alive | Restarting | Terminated
}

/** A child before its first launch, from a spec that requires no more than the context holds. */
export const make = (
  spec: ChildSpec.Resolved,
  context: Context.Context<never>,
  parent: Report.Parent,
): Child => ({
  spec,
  context: Context.add(context, Report.Parent, parent) as Context.Context<unknown>,
  state: terminated,
})

/** The state without a fiber and without a plan. */
export const terminated: Terminated = { _tag: "terminated" }

/** Where the child is in its life. */
export const status = (child: Child): Status =>
  child.state._tag === "alive" ? (child.state.started ? "running" : "starting") : child.state._tag

/**
 * Starts the child's fiber and waits until it has initialised or ended. Yields the failure of the
 * initialisation as a value; fails only by interruption, and leaves the child alive then.
 */
export const launch: (
  child: Child,
  onExit: (alive: Alive, exit: Exit.Exit<unknown, unknown>) => void,
) => Effect.Effect<Exit.Exit<unknown, unknown>> = Effect.fnUntraced(
  function* (child, onExit) {
    // The outcome is an exit as a value, so that an interrupted await can be told from a child that
    // was interrupted.
    const started = Deferred.makeUnsafe<Exit.Exit<unknown, unknown>>()
    const life = child.spec.start.pipe(
      Effect.flatMap((run) => {
        Deferred.doneUnsafe(started, Effect.succeed(Exit.void))
        return run
      }),
      Effect.scoped,
    )
    yield* Effect.interruptible(Effect.void)
    const fiber = Effect.runForkWith(child.context)(life)
    const alive: Alive = { _tag: "alive", fiber, started: false }
    child.state = alive
    fiber.addObserver((exit) => {
      Deferred.doneUnsafe(started, Effect.succeed(exit))
      onExit(alive, exit)
    })
    const outcome = yield* Effect.interruptible(Deferred.await(started))
    alive.started = true
    return outcome
  },
)

const awaitWithin = (
  fiber: Fiber.Fiber<unknown, unknown>,
  millis: number,
): Effect.Effect<Exit.Exit<unknown, unknown> | undefined> => {
  const exit = fiber.pollUnsafe()
  if (exit !== undefined || millis === 0) return Effect.succeed(exit)
  if (millis === Infinity) return Fiber.await(fiber)
  return Effect.map(Effect.timeoutOption(Fiber.await(fiber), millis), Option.getOrUndefined)
}

/**
 * Stops the child: interrupts it and waits as long as its spec says, then abandons it. Tells how it
 * went. A child that had ended before is told of as terminated, which its supervisor did not know.
 */
export const stop: (child: Child, tell: Tell) => Effect.Effect<void> = Effect.fnUntraced(
  function* (child, tell) {
    if (child.state._tag !== "alive") {
      child.state = terminated
      return
    }
    const { fiber } = child.state
    const about = { child: child.spec.id, type: child.spec.type }
    child.state = terminated
    const before = fiber.pollUnsafe()
    if (before !== undefined) {
      return tell({ _tag: "ChildTerminated", ...about, exit: before, restart: false })
    }
    fiber.interruptUnsafe()
    const exit = yield* awaitWithin(fiber, child.spec.shutdownMillis)
    if (exit !== undefined) return tell({ _tag: "ChildStopped", ...about, exit })
    tell({ _tag: "ShutdownTimedOut", ...about, waited: child.spec.shutdownMillis })
    fiber.addObserver((exit) => tell({ _tag: "AbandonedChildEnded", ...about, exit }))
  },
)
