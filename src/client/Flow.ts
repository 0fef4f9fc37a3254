/**
 * Workflows: jobs composed like Effects, one after the other, side by side, once for each element of
 * a result. What a step takes is what the one before it gives, which the compiler checks.
 *
 * A flow is a value; nothing happens until it is enqueued. Then all of its jobs become real in one
 * step, as members of one batch, and servers do the rest: no process stays with it. Each job has its
 * own retries, and a step runs only once everything before it has succeeded.
 *
 * @example
 * ```ts
 * import { Flow, Job } from "@portfire/portfire"
 * import * as Effect from "effect/Effect"
 * import * as Schema from "effect/Schema"
 *
 * const Images = Schema.Array(Schema.String)
 * const Scan = Job.make("album/scan", { payload: Schema.String, success: Images })
 * const Resize = Job.make("image/resize", { payload: Schema.String, success: Schema.String })
 * const Publish = Job.make("album/publish", { payload: Images, success: Schema.Number })
 *
 * const album = Flow.job(Scan, "summer").pipe(
 *   Flow.forEach(Resize),
 *   Flow.andThen(Publish),
 * )
 *
 * const program = Effect.gen(function* () {
 *   const handle = yield* Flow.enqueue(album, { description: "album summer" })
 *   return yield* Flow.await(album, handle, { within: "1 minute" })
 * })
 * ```
 *
 * @module
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type { BatchError, BatchOptions } from "./BatchBuilder.ts"
import { type AwaitOptions, Client, type OutcomeError } from "./Client.ts"
import type { JobOptions } from "./Definition.ts"
import type { Handle } from "./FlowCompiler.ts"
import type { Plan } from "./FlowPlan.ts"
import type { Job } from "./Job.ts"

export type { Handle } from "./FlowCompiler.ts"

declare const types: unique symbol

/** A workflow that gives an `A`, or fails with the typed error `E` of one of its jobs. */
export interface Flow<out A, out E = never> extends Pipeable {
  /** What it consists of; opaque. */
  readonly plan: Plan
  /** Never there at run time. */
  readonly [types]?: { readonly success: A; readonly error: E }
}

/** What a flow gives. */
export type Success<F> = F extends Flow<infer A, infer _E> ? A : never

/** The typed errors of a flow's jobs. */
export type Error<F> = F extends Flow<infer _A, infer E> ? E : never

/** What one step has beside its definition. */
export interface StepOptions extends JobOptions {
  /** Time between the end of what is before it and its first attempt; default none. */
  readonly delay?: Duration.Input | undefined
}

class Made<A, E> implements Flow<A, E> {
  readonly plan: Plan
  constructor(plan: Plan) {
    this.plan = plan
  }
  declare readonly [types]?: { readonly success: A; readonly error: E }
  pipe(): unknown {
    return pipeArguments(this, arguments)
  }
}

const make = <A, E>(plan: Plan): Flow<A, E> => new Made<A, E>(plan) as unknown as Flow<A, E>

const isFlow = (value: unknown): value is Flow<unknown, unknown> => value instanceof Made

/** One job with its payload: where flows begin. The payload is checked when the flow is enqueued. */
export const job = <Name extends string, P, A, E>(
  job: Job<Name, P, A, E>,
  ...[payload, options]: undefined extends P ? [payload?: P, options?: StepOptions]
    : [payload: P, options?: StepOptions]
): Flow<A, E> => make({ _tag: "Root", definition: job.definition, payload, options })

/** Then a job whose payload is the result of what is before it. */
export const andThen: {
  <Name extends string, P, B, E2>(
    job: Job<Name, P, B, E2>,
    options?: StepOptions,
  ): <E>(self: Flow<P, E>) => Flow<B, E | E2>
  <Name extends string, P, E, B, E2>(
    self: Flow<P, E>,
    job: Job<Name, P, B, E2>,
    options?: StepOptions,
  ): Flow<B, E | E2>
} = dual(
  (args) => isFlow(args[0]),
  <Name extends string, P, E, B, E2>(
    self: Flow<P, E>,
    { definition }: Job<Name, P, B, E2>,
    options?: StepOptions,
  ): Flow<B, E | E2> => make({ _tag: "Then", self: self.plan, definition, options }),
)

/**
 * Then one job for each element of the list that is before it; gives the list of their results, in the
 * order of the elements. The list may have up to 10,000 elements, or none.
 *
 * All of the jobs run, and end, whatever becomes of the others. When one of them has not succeeded in
 * the end, what follows is cancelled.
 */
export const forEach: {
  <Name extends string, P, B, E2>(
    job: Job<Name, P, B, E2>,
    options?: StepOptions,
  ): <E>(self: Flow<ReadonlyArray<P>, E>) => Flow<ReadonlyArray<B>, E | E2>
  <Name extends string, P, E, B, E2>(
    self: Flow<ReadonlyArray<P>, E>,
    job: Job<Name, P, B, E2>,
    options?: StepOptions,
  ): Flow<ReadonlyArray<B>, E | E2>
} = dual(
  (args) => isFlow(args[0]),
  <Name extends string, P, E, B, E2>(
    self: Flow<ReadonlyArray<P>, E>,
    { definition }: Job<Name, P, B, E2>,
    options?: StepOptions,
  ): Flow<ReadonlyArray<B>, E | E2> => make({ _tag: "Each", self: self.plan, definition, options }),
)

/**
 * Flows side by side: gives their results as a list, or as a record with the same keys. When one fails,
 * what follows is cancelled at once; the others go on.
 */
export const all = <
  const Parts extends
    | ReadonlyArray<Flow<unknown, unknown>>
    | Readonly<Record<string, Flow<unknown, unknown>>>,
>(
  parts: Parts,
): Flow<{ readonly [K in keyof Parts]: Success<Parts[K]> }, Error<Parts[keyof Parts]>> =>
  make({
    _tag: "All",
    parts: Array.isArray(parts) ? parts.map(({ plan }) => plan) : Object.fromEntries(
      Object.entries(parts as Readonly<Record<string, Flow<unknown, unknown>>>)
        .map(([key, { plan }]) => [key, plan]),
    ),
  })

/**
 * Runs a flow once and lets several others go on from it. Without this, a flow that is used twice runs
 * twice, like an Effect.
 *
 * @example
 * ```ts
 * import { Flow, Job } from "@portfire/portfire"
 * import * as Schema from "effect/Schema"
 *
 * const text = { payload: Schema.String, success: Schema.String }
 * const Fetch = Job.make("fetch", text)
 * const Index = Job.make("index", text)
 * const Preview = Job.make("preview", text)
 *
 * const diamond = Flow.job(Fetch, "https://example.org").pipe(
 *   Flow.share((page) => Flow.all([
 *     page.pipe(Flow.andThen(Index)),
 *     page.pipe(Flow.andThen(Preview)),
 *   ])),
 * )
 * ```
 */
export const share: {
  <A, E, B, E2>(
    use: (shared: Flow<A, never>) => Flow<B, E2>,
  ): (self: Flow<A, E>) => Flow<B, E | E2>
  <A, E, B, E2>(
    self: Flow<A, E>,
    use: (shared: Flow<A, never>) => Flow<B, E2>,
  ): Flow<B, E | E2>
} = dual(
  2,
  <A, E, B, E2>(
    self: Flow<A, E>,
    use: (shared: Flow<A, never>) => Flow<B, E2>,
  ): Flow<B, E | E2> => {
    const shared: Plan = { _tag: "Shared", of: self.plan }
    return make({ _tag: "Share", self: self.plan, use: shared, body: use(make(shared)).plan })
  },
)

/**
 * What runs when a flow has not succeeded, and gives its result instead. It may have been cancelled,
 * too. In the batch's own account, whichever of the two was not needed counts as cancelled or failed.
 */
export const orElse: {
  <A, E2>(that: Flow<A, E2>): <E>(self: Flow<A, E>) => Flow<A, E2>
  <A, E, E2>(self: Flow<A, E>, that: Flow<A, E2>): Flow<A, E2>
} = dual(
  2,
  <A, E, E2>(self: Flow<A, E>, that: Flow<A, E2>): Flow<A, E2> =>
    make({ _tag: "OrElse", self: self.plan, that: that.plan }),
)

/**
 * Stores a flow: all of its jobs become real in one step, or none do. Gives the batch that they are
 * members of, which can be cancelled and looked at like any, and the job that will have the result.
 */
export const enqueue = <A, E>(
  self: Flow<A, E>,
  options: BatchOptions = {},
): Effect.Effect<Handle, BatchError, Client> =>
  Effect.flatMap(Client, ({ flows }) => flows.enqueue(self.plan, options))

/**
 * Waits for the end of a flow that was enqueued, which may be over already, and gives its result. It
 * fails with the typed error of the job that made it fail, or with that job's `JobFailed`; with
 * `JobCancelled` when it was cancelled; with `AwaitTimedOut` when it takes longer than `within`. A
 * handle is plain data: it may come from another process.
 */
const awaitEnd = <A, E>(
  self: Flow<A, E>,
  handle: Handle,
  options?: AwaitOptions,
): Effect.Effect<A, E | OutcomeError, Client> =>
  Effect.flatMap(
    Client,
    ({ flows }) =>
      flows.await(self.plan, handle, options) as Effect.Effect<A, E | OutcomeError, Client>,
  )

export { awaitEnd as await }

/**
 * Stores a flow, waits for its end and gives its result, or fails as `await` does. Interrupting it
 * leaves the flow alone.
 */
export const execute = <A, E>(
  self: Flow<A, E>,
  { within, ...options }: BatchOptions & AwaitOptions = {},
): Effect.Effect<A, E | BatchError | OutcomeError, Client> =>
  Effect.flatMap(enqueue(self, options), (handle) => awaitEnd(self, handle, { within }))
