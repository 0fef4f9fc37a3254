/**
 * Starts children in order, restarts those that terminate, and stops them in reverse: OTP's
 * `supervisor` on Effect's fibers. When children terminate more often than the budget allows, the
 * supervisor stops them all and fails, so that its own parent decides.
 *
 * Guarantee: while a supervisor runs, each of its children is starting, running, waiting for its
 * restart, or terminated because its spec or somebody said so; when it has ended, for whatever
 * reason, all its children have ended or were abandoned with a report.
 *
 * @module
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { InvalidOptions } from "../../src/core/errors.ts"
import { show } from "../../src/core/Names.ts"
import * as Child from "./Child.ts"
import * as Children from "./Children.ts"
import * as ChildSpec from "./ChildSpec.ts"
import {
  ChildConflict,
  ChildNotFound,
  type IntensityExceeded,
  StartFailed,
  type SupervisorStopped,
} from "./errors.ts"
import * as Intensity from "./Intensity.ts"
import * as Loop from "./Loop.ts"
import * as Report from "./Report.ts"

export type { Strategy } from "./Children.ts"

/** How a supervisor is made. */
export interface Options<
  Specs extends ReadonlyArray<ChildSpec.Any> = ReadonlyArray<ChildSpec.Any>,
> extends Intensity.Options {
  /** Name of the supervisor; the last part of its path in reports. */
  readonly id: string
  /** Default `oneForOne`. */
  readonly strategy?: Children.Strategy
  /** The children, in the order in which they start. */
  readonly children: Specs
  /**
   * Takes the reports of this supervisor and of all below it. If no supervisor up to the root has an
   * observer, reports of trouble are logged as warnings.
   */
  readonly onReport?: Report.Observer
  /**
   * How children are stopped when the supervisor ends: one after the other, right to left, or all at
   * once. `concurrent` is for independent children, so it needs `oneForOne`. Default `rightToLeft`.
   */
  readonly stopOrder?: "rightToLeft" | "concurrent"
}

/** A child as `whichChildren` shows it. */
export interface ChildInfo {
  /** Its id. */
  readonly id: string
  /** Where it is in its life. */
  readonly status: Child.Status
  /** Worker or supervisor. */
  readonly type: ChildSpec.Type
  /** When it is restarted. */
  readonly restart: ChildSpec.Restart
}

/** How many children there are. */
export interface ChildCounts {
  /** All, dead or alive. */
  readonly specs: number
  /** Those that run. */
  readonly active: number
  /** Those of type `supervisor`, dead or alive. */
  readonly supervisors: number
  /** Those of type `worker`, dead or alive. */
  readonly workers: number
}

/** A running supervisor. Requests are served one at a time, between exits, in the order they came. */
export interface Supervisor {
  /** Ids from the root down to this supervisor, joined by `/`. */
  readonly path: string
  /**
   * Waits for the end of the supervisor: succeeds when it was stopped, fails when the budget of
   * restarts was spent. All children have ended by then.
   */
  readonly awaitExit: Effect.Effect<void, IntensityExceeded>
  /**
   * Adds a child at the right end and starts it. Fails if the id is taken, whether its child runs or
   * not. A child that fails to start is not kept.
   *
   * The call must not come from a start effect of the same supervisor, which is waiting for it.
   */
  readonly startChild: <Spec extends ChildSpec.Any>(spec: Spec) => Effect.Effect<
    void,
    StartFailed | ChildConflict | InvalidOptions | SupervisorStopped,
    ChildSpec.Services<Spec>
  >
  /**
   * Stops a child, or calls off its restart. Its spec is kept, unless it is temporary, so that a
   * restart of the group or `restartChild` starts it again.
   */
  readonly terminateChild: (id: string) => Effect.Effect<void, ChildNotFound | SupervisorStopped>
  /** Starts a child that is terminated. If it fails to start it stays terminated. */
  readonly restartChild: (
    id: string,
  ) => Effect.Effect<void, StartFailed | ChildConflict | ChildNotFound | SupervisorStopped>
  /** Forgets a child that is terminated. */
  readonly deleteChild: (
    id: string,
  ) => Effect.Effect<void, ChildConflict | ChildNotFound | SupervisorStopped>
  /** The children in start order, as they are now; never waits. */
  readonly whichChildren: Effect.Effect<ReadonlyArray<ChildInfo>>
  /** The numbers of children as they are now; never waits. */
  readonly countChildren: Effect.Effect<ChildCounts>
}

/**
 * Starts a supervisor and its children, left to right, each after the one before has initialised.
 * If one fails to start, those started are stopped right to left and the start fails. Closing the
 * scope stops the supervisor and waits for it.
 *
 * @example
 * ```ts ignore
 * const supervisor = yield* Supervisor.start({
 *   id: "mail",
 *   strategy: "restForOne",
 *   intensity: 5,
 *   period: "30 seconds",
 *   children: [
 *     { id: "lease", start: lease },
 *     { id: "fetcher", start: fetcher, shutdown: "10 seconds" },
 *   ],
 * })
 * yield* supervisor.awaitExit
 * ```
 */
export const start = <const Specs extends ReadonlyArray<ChildSpec.Any>>(
  options: Options<Specs>,
): Effect.Effect<
  Supervisor,
  StartFailed | InvalidOptions,
  ChildSpec.Services<Specs[number]> | Scope.Scope
> =>
  Effect.contextWith((context: Context.Context<ChildSpec.Services<Specs[number]>>) =>
    startWith(options, context)
  )

/**
 * A child spec that runs a supervisor under another: permanent, of type `supervisor`, with all the
 * time it needs to stop. To get hold of the nested supervisor, write the spec by hand:
 * `start: Effect.map(Supervisor.start(options), (supervisor) => supervisor.awaitExit)`.
 */
export const childSpec = <const Specs extends ReadonlyArray<ChildSpec.Any>>(
  options: Options<Specs> & Pick<ChildSpec.ChildSpec, "restart" | "shutdown">,
): ChildSpec.ChildSpec<ChildSpec.Services<Specs[number]>> => ({
  id: options.id,
  type: "supervisor",
  restart: options.restart ?? "permanent",
  shutdown: options.shutdown ?? "infinity",
  start: Effect.map(start(options), (supervisor) => supervisor.awaitExit),
})

const strategies: ReadonlyArray<unknown> = ["oneForOne", "oneForAll", "restForOne"]
const stopOrders: ReadonlyArray<unknown> = ["rightToLeft", "concurrent"]

interface Settings {
  readonly specs: ReadonlyArray<ChildSpec.Resolved>
  readonly strategy: Children.Strategy
  readonly concurrent: boolean
  readonly intensity: Intensity.Intensity
}

const resolve = (options: Options): Settings | InvalidOptions => {
  const { id, stopOrder = "rightToLeft", strategy = "oneForOne" } = options
  const refuse = (field: string, value: unknown, reason: string): InvalidOptions =>
    new InvalidOptions({ field, value: show(value), reason })
  if (typeof id !== "string" || id === "") return refuse("id", id, "an id is a text, not empty")
  if (!strategies.includes(strategy)) {
    return refuse("strategy", strategy, `it is one of ${strategies.join(", ")}`)
  }
  if (!stopOrders.includes(stopOrder)) {
    return refuse("stopOrder", stopOrder, `it is one of ${stopOrders.join(", ")}`)
  }
  if (stopOrder === "concurrent" && strategy !== "oneForOne") {
    return refuse("stopOrder", stopOrder, "children that depend on each other stop in order")
  }
  const intensity = Intensity.resolve(options)
  if (intensity instanceof InvalidOptions) return intensity
  const specs: Array<ChildSpec.Resolved> = []
  for (const [index, given] of options.children.entries()) {
    const spec = ChildSpec.resolve(given, `children[${index}]`)
    if (spec instanceof InvalidOptions) return spec
    if (specs.some((other) => other.id === spec.id)) {
      return refuse(`children[${index}].id`, spec.id, "an id is unique among siblings")
    }
    specs.push(spec)
  }
  return { specs, strategy, concurrent: stopOrder === "concurrent", intensity }
}

const startWith: (
  options: Options,
  context: Context.Context<never>,
) => Effect.Effect<Supervisor, StartFailed | InvalidOptions, Scope.Scope> = Effect.fnUntraced(
  function* (options, context) {
    const settings = resolve(options)
    if (settings instanceof InvalidOptions) return yield* settings
    const above = yield* Report.Parent
    const path = above.path === "" ? options.id : `${above.path}/${options.id}`
    const observe = Report.combine(options.onReport, above.observe, yield* Effect.context<never>())
    const clock = yield* Clock.Clock
    const scope = yield* Effect.scope

    const loop = yield* Loop.make({ ...settings, supervisor: path, observe, clock })
    const parent: Report.Parent = { path, observe }
    for (const spec of settings.specs) {
      loop.children.byId.set(spec.id, Child.make(spec, context, parent))
    }
    // The budget can't be spent before the start is over, and the start can't fail after it.
    const fiber = yield* Effect.catchTag(Loop.fork(loop, scope), "IntensityExceeded", Effect.die)
    const ended = Effect.catchTag(Fiber.join(fiber), "StartFailed", Effect.die)
    return {
      path,
      awaitExit: Effect.flatMap(
        Fiber.await(fiber),
        (exit) => Report.isClean(exit) ? Effect.void : ended,
      ),
      ...requestsOf(loop, parent),
    }
  },
)

type Requests = Omit<Supervisor, "path" | "awaitExit">

const requestsOf = ({ children, request }: Loop.Loop, parent: Report.Parent): Requests => {
  const supervisor = parent.path
  const find = (id: string): Effect.Effect<Child.Child, ChildNotFound> =>
    Effect.suspend(() => {
      const child = children.byId.get(id)
      return child !== undefined
        ? Effect.succeed(child)
        : Effect.fail(new ChildNotFound({ supervisor, child: id }))
    })

  const findTerminated = (
    id: string,
  ): Effect.Effect<Child.Child, ChildNotFound | ChildConflict> =>
    Effect.flatMap(find(id), (child) => {
      const status = Child.status(child)
      return status === "terminated"
        ? Effect.succeed(child)
        : Effect.fail(new ChildConflict({ supervisor, child: id, status }))
    })

  const launch = Effect.fnUntraced(function* (child: Child.Child) {
    const failed = yield* Children.launch(children, child)
    if (failed === undefined) return
    const cause = Loop.reasonOf(failed.exit)
    return yield* new StartFailed({ supervisor, child: child.spec.id, cause })
  })

  const add = Effect.fnUntraced(
    function* (spec: ChildSpec.Resolved, context: Context.Context<never>) {
      const present = children.byId.get(spec.id)
      if (present !== undefined) {
        const status = Child.status(present)
        return yield* new ChildConflict({ supervisor, child: spec.id, status })
      }
      const child = Child.make(spec, context, parent)
      children.byId.set(spec.id, child)
      yield* Effect.tapError(
        launch(child),
        () => Effect.sync(() => children.byId.delete(child.spec.id)),
      )
    },
  )

  return {
    startChild: <Spec extends ChildSpec.Any>(given: Spec) =>
      Effect.gen(function* () {
        const context = yield* Effect.context<ChildSpec.Services<Spec>>()
        const spec = ChildSpec.resolve(given, "child")
        if (spec instanceof InvalidOptions) return yield* spec
        yield* request(add(spec, context))
      }),
    terminateChild: (id) =>
      request(Effect.flatMap(find(id), (child) =>
        Effect.andThen(
          Child.stop(child, children.tell),
          Effect.sync(() => {
            if (child.spec.restart === "temporary") children.byId.delete(child.spec.id)
          }),
        ))),
    restartChild: (id) => request(Effect.flatMap(findTerminated(id), launch)),
    deleteChild: (id) =>
      request(Effect.map(findTerminated(id), () => void children.byId.delete(id))),
    whichChildren: Effect.sync(() =>
      Children.inOrder(children).map((child) => ({
        id: child.spec.id,
        status: Child.status(child),
        type: child.spec.type,
        restart: child.spec.restart,
      }))
    ),
    countChildren: Effect.sync(() => {
      const all = Children.inOrder(children)
      const count = (is: (child: Child.Child) => boolean): number => all.filter(is).length
      return {
        specs: all.length,
        active: count((child) => Child.status(child) === "running"),
        supervisors: count((child) => child.spec.type === "supervisor"),
        workers: count((child) => child.spec.type === "worker"),
      }
    }),
  }
}
