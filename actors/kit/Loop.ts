/**
 * The fiber of a supervisor: it starts the children, then works through a mailbox of exits, due
 * restarts and requests, one at a time, and at the end stops the children.
 *
 * Modes: *starting* until all children have initialised, *serving*, *closing*. An interruption, a
 * spent budget, and a child that fails the start lead to closing, and nothing leads back.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Child from "./Child.ts"
import * as Children from "./Children.ts"
import { IntensityExceeded, StartFailed, SupervisorStopped } from "./errors.ts"
import * as Intensity from "./Intensity.ts"
import * as Report from "./Report.ts"

/** What a loop is made of. */
export interface Settings {
  /** Path of the supervisor. */
  readonly supervisor: string
  /** Takes its reports. */
  readonly observe: Report.Observer
  /** Who is restarted with whom. */
  readonly strategy: Children.Strategy
  /** The budget of restarts. */
  readonly intensity: Intensity.Intensity
  /** Whether closing stops the children all at once. */
  readonly concurrent: boolean
  /** Time for the budget and the reports. */
  readonly clock: Clock.Clock
}

/** A supervisor's loop, and the way to ask something of it. */
export interface Loop {
  /** The children it keeps; changed before it runs and by requests only. */
  readonly children: Children.Children
  /** The loop itself, to be run once by an uninterruptible fiber. */
  readonly run: Effect.Effect<never, StartFailed | IntensityExceeded>
  /** Completes when all children have initialised. */
  readonly started: Deferred.Deferred<void, StartFailed | IntensityExceeded>
  /**
   * Has the loop do something between two messages, and waits for what comes of it. If the wait is
   * interrupted before the loop begins, it is not done.
   */
  readonly request: <A, E>(serve: Effect.Effect<A, E>) => Effect.Effect<A, E | SupervisorStopped>
}

/** A child's fiber has ended. Stale if the child was stopped or launched since. */
interface Exited {
  readonly _tag: "Exited"
  readonly child: Child.Child
  readonly state: Child.Alive
  readonly exit: Exit.Exit<unknown, unknown>
}

/** A restart is due after its delay, or failed and is to be tried again. Stale likewise. */
interface Restart {
  readonly _tag: "RestartDue" | "RestartFailed"
  readonly child: Child.Child
  readonly state: Child.Restarting
  readonly exit: Exit.Exit<unknown, unknown>
}

interface Request {
  readonly _tag: "Request"
  readonly serve: Effect.Effect<void>
}

/** Makes the loop of a supervisor; its children are added to the list before it runs. */
export const make: (settings: Settings) => Effect.Effect<Loop> = Effect.fnUntraced(
  function* ({ clock, concurrent, intensity, observe, strategy, supervisor }) {
    const mailbox = yield* Queue.unbounded<Exited | Restart | Request>()
    const started = Deferred.makeUnsafe<void, StartFailed | IntensityExceeded>()
    const refusals = new Set<() => void>()
    let restarts: ReadonlyArray<number> = []
    let closing = false

    const tell: Child.Tell = (report) =>
      observe({ ...report, supervisor, at: clock.currentTimeMillisUnsafe() })

    const children: Children.Children = {
      byId: new Map(),
      strategy,
      tell,
      onExit: (child, state, exit) =>
        Queue.offerUnsafe(mailbox, { _tag: "Exited", child, state, exit }),
    }

    const exited = (child: Child.Child, exit: Exit.Exit<unknown, unknown>) => {
      const { id, restart, type } = child.spec
      const again = restart === "permanent" || (restart === "transient" && Exit.isFailure(exit))
      tell({ _tag: "ChildTerminated", child: id, type, exit, restart: again })
      if (again) return recover(child, exit)
      child.state = Child.terminated
      if (restart === "temporary") children.byId.delete(id)
      return Effect.void
    }

    // The rest of the group is stopped before the delay, not after it: it must not go on without
    // the one it depends on.
    const recover = Effect.fnUntraced(
      function* (child: Child.Child, exit: Exit.Exit<unknown, unknown>) {
        const now = Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
        restarts = Intensity.add(intensity, restarts, now)
        if (restarts.length > intensity.limit) return yield* giveUp(child, exit)
        const state: Child.Restarting = { _tag: "restarting" }
        child.state = state
        yield* Children.stopGroup(children, child)
        const delay = Intensity.delay(intensity, restarts.length)
        if (delay === 0) return yield* relaunch(child)
        const due = Effect.sync(() =>
          Queue.offerUnsafe(mailbox, { _tag: "RestartDue", child, state, exit })
        )
        yield* Effect.forkChild(Effect.delay(due, delay))
      },
    )

    // A failed restart goes through the mailbox, so that requests and a stop get their turn.
    const relaunch = Effect.fnUntraced(function* (culprit: Child.Child) {
      const failed = yield* Children.startGroup(children, culprit)
      if (failed === undefined) return
      const state: Child.Restarting = { _tag: "restarting" }
      failed.child.state = state
      Queue.offerUnsafe(mailbox, { _tag: "RestartFailed", ...failed, state })
    })

    const giveUp = (child: Child.Child, exit: Exit.Exit<unknown, unknown>) => {
      const { id, type } = child.spec
      const { limit, period } = intensity
      child.state = Child.terminated
      tell({ _tag: "IntensityExceeded", child: id, type, intensity: limit, period })
      return new IntensityExceeded({
        supervisor,
        child: id,
        intensity: limit,
        period,
        cause: reasonOf(exit),
      })
    }

    const handle = Effect.fnUntraced(function* (message: Exited | Restart | Request) {
      if (message._tag === "Request") return yield* message.serve
      const { child, exit, state } = message
      if (child.state !== state) return
      if (message._tag === "Exited") return yield* exited(child, exit)
      if (message._tag === "RestartFailed") return yield* recover(child, exit)
      yield* Children.stopGroup(children, child)
      yield* relaunch(child)
    })

    const serve = Effect.gen(function* () {
      for (const child of Children.inOrder(children)) {
        const failed = yield* Children.launch(children, child)
        if (failed === undefined) continue
        const cause = reasonOf(failed.exit)
        return yield* new StartFailed({ supervisor, child: child.spec.id, cause })
      }
      Deferred.doneUnsafe(started, Effect.void)
      while (true) yield* handle(yield* Effect.interruptible(Queue.take(mailbox)))
    })

    const run = Effect.gen(function* () {
      const exit = yield* Effect.exit(serve)
      closing = true
      for (const refuse of refusals) refuse()
      yield* Children.stopAll(children, concurrent)
      yield* Queue.shutdown(mailbox)
      tell({ _tag: "SupervisorStopped", reason: reportedReason(exit) })
      return yield* exit
    })

    const stopped = Effect.suspend(() => Effect.fail(new SupervisorStopped({ supervisor })))
    const request = <A, E>(
      serve: Effect.Effect<A, E>,
    ): Effect.Effect<A, E | SupervisorStopped> =>
      Effect.suspend(() => {
        if (closing) return stopped
        const reply = Deferred.makeUnsafe<A, E | SupervisorStopped>()
        const refuse = (): unknown => Deferred.doneUnsafe(reply, stopped)
        const answer = (outcome: Effect.Effect<A, E>): void => {
          refusals.delete(refuse)
          Deferred.doneUnsafe(reply, outcome)
        }
        // Only its own outcome answers the request: an interruption is the loop's, and closes it.
        const answered = Effect.match(serve, {
          onFailure: (error) => answer(Effect.fail(error)),
          onSuccess: (value) => answer(Effect.succeed(value)),
        })
        refusals.add(refuse)
        Queue.offerUnsafe(mailbox, {
          _tag: "Request",
          serve: Effect.suspend(() => refusals.has(refuse) ? answered : Effect.void),
        })
        const withdraw = Effect.sync(() => refusals.delete(refuse))
        return Effect.onInterrupt(Deferred.await(reply), () => withdraw)
      })

    return { children, run, started, request }
  },
)

/**
 * Runs the loop in a fiber that closing the scope stops, and waits until the children have started.
 * If the wait is interrupted the supervisor is stopped first.
 */
export const fork = (
  loop: Loop,
  scope: Scope.Scope,
): Effect.Effect<
  Fiber.Fiber<never, StartFailed | IntensityExceeded>,
  StartFailed | IntensityExceeded
> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkIn(loop.run, scope, {
        startImmediately: true,
        uninterruptible: true,
      })
      fiber.addObserver((exit) => Deferred.doneUnsafe(loop.started, exit))
      yield* Effect.onInterrupt(
        restore(Deferred.await(loop.started)),
        () => Fiber.interrupt(fiber),
      )
      return fiber
    })
  )

/** What an error's `cause` shows of an exit; undefined for a success. */
export const reasonOf = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined

const reportedReason = (
  exit: Exit.Exit<never, StartFailed | IntensityExceeded>,
): Report.SupervisorStopped["reason"] => {
  if (Report.isClean(exit)) return "shutdown"
  const reason = reasonOf(exit)
  if (reason instanceof StartFailed) return "startFailed"
  return reason instanceof IntensityExceeded ? "intensityExceeded" : "defect"
}
