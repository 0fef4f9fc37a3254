/**
 * Workflows: jobs composed one after the other, side by side, once for each element of a result. What
 * a step takes is what the one before it gives, which the compiler checks.
 *
 * A flow is a value; nothing happens until it is enqueued. Then all of its jobs become real in one
 * step, as members of one batch, and servers do the rest: no process stays with it. Each job has its
 * own retries, and a step runs only once everything before it has succeeded.
 *
 * @example
 * ```ts
 * import { connect, Flow, job, type StandardSchema } from "@portfire/portfire/promise"
 *
 * declare const text: StandardSchema<string>
 * declare const texts: StandardSchema<ReadonlyArray<string>>
 *
 * const Scan = job("album/scan", { payload: text, success: texts })
 * const Resize = job("image/resize", { payload: text, success: text })
 * const Publish = job("album/publish", { payload: texts, success: text })
 *
 * const portfire = await connect()
 * const album = Flow.job(Scan, "summer").forEach(Resize).andThen(Publish)
 * const url = await portfire.flows.execute(album, { within: "1 minute" })
 * ```
 *
 * @module
 */
import type { BatchOptions } from "../../src/client/BatchBuilder.ts"
import type { AwaitOptions } from "../../src/client/Client.ts"
import * as EffectFlow from "../../src/client/Flow.ts"
import type * as EffectJob from "../../src/client/Job.ts"
import type { Definition } from "./Definition.ts"
import { type CallOptions, type Run, split } from "./run.ts"

export type { Handle, StepOptions } from "../../src/client/Flow.ts"

type Step = EffectJob.Job<string, unknown, unknown, unknown>
type Inner = EffectFlow.Flow<unknown, unknown>

/** Flows use nothing of a job but its definition. */
const stepOf = (job: Definition): Step => job as unknown as Step

/**
 * A workflow: `Output` is what its last handler returns, which the next step is given, and `Result`
 * what who waits for it gets.
 */
export class Flow<out Output, out Result> {
  /** The same flow for Effect code. */
  readonly effect: EffectFlow.Flow<Result, unknown>
  /** Never there at run time. */
  declare readonly "~types"?: { readonly output: Output; readonly result: Result }

  /** See {@link job} and {@link all}. */
  constructor(effect: EffectFlow.Flow<unknown, unknown>) {
    this.effect = effect as EffectFlow.Flow<Result, unknown>
  }

  /** Then a job whose payload is the result of what is before it. */
  andThen<I, O, A>(
    this: Flow<NoInfer<I>, unknown>,
    job: Definition<I, unknown, O, A>,
    options?: EffectFlow.StepOptions,
  ): Flow<O, A> {
    return new Flow(EffectFlow.andThen(this.effect as Inner, stepOf(job), options))
  }

  /**
   * Then one job for each element of the list that is before it; gives the list of their results, in
   * the order of the elements. The list may have up to 10,000 elements, or none.
   *
   * All of the jobs run, and end, whatever becomes of the others. When one of them has not succeeded in
   * the end, what follows is cancelled.
   */
  forEach<I, O, A>(
    this: Flow<ReadonlyArray<NoInfer<I>>, unknown>,
    job: Definition<I, unknown, O, A>,
    options?: EffectFlow.StepOptions,
  ): Flow<ReadonlyArray<O>, ReadonlyArray<A>> {
    const list = this.effect as EffectFlow.Flow<ReadonlyArray<unknown>, unknown>
    return new Flow(EffectFlow.forEach(list, stepOf(job), options))
  }

  /**
   * Runs the flow once and lets several others go on from it. Without this, a flow that is used twice
   * runs twice.
   */
  share<O, A>(use: (shared: Flow<Output, Result>) => Flow<O, A>): Flow<O, A> {
    return new Flow(EffectFlow.share(this.effect, (shared) => use(new Flow(shared)).effect))
  }

  /**
   * What runs when the flow has not succeeded, and gives its result instead. It may have been
   * cancelled, too.
   */
  orElse(that: Flow<Output, Result>): Flow<Output, Result> {
    return new Flow(EffectFlow.orElse(this.effect, that.effect))
  }
}

/** Any flow. */
export type AnyFlow = Flow<unknown, unknown>

/** What a flow's last handler returns. */
export type OutputOf<F> = F extends Flow<infer O, unknown> ? O : never

/** What who waits for a flow gets. */
export type ResultOf<F> = F extends Flow<unknown, infer A> ? A : never

/** One job with its payload: where flows begin. The payload is checked when the flow is enqueued. */
export const job = <I, O, A>(
  job: Definition<I, unknown, O, A>,
  ...[payload, options]: undefined extends I ? [payload?: I, options?: EffectFlow.StepOptions]
    : [payload: I, options?: EffectFlow.StepOptions]
): Flow<O, A> => new Flow(EffectFlow.job(stepOf(job), payload, options))

/**
 * Flows side by side: gives their results as a list, or as a record with the same keys. When one fails,
 * what follows is cancelled at once; the others go on.
 */
export const all = <
  const Parts extends ReadonlyArray<AnyFlow> | Readonly<Record<string, AnyFlow>>,
>(
  parts: Parts,
): Flow<
  { readonly [K in keyof Parts]: OutputOf<Parts[K]> },
  { readonly [K in keyof Parts]: ResultOf<Parts[K]> }
> =>
  new Flow(EffectFlow.all(
    Array.isArray(parts)
      ? (parts as ReadonlyArray<AnyFlow>).map(({ effect }) => effect)
      : Object.fromEntries(
        Object.entries(parts as Readonly<Record<string, AnyFlow>>)
          .map(([key, { effect }]) => [key, effect]),
      ),
  ))

/** Enqueues workflows and waits for them. */
export interface Flows {
  /**
   * Stores a flow: all of its jobs become real in one step, or none do. Gives the batch that they are
   * members of, which can be cancelled and looked at like any, and the job that will have the result.
   */
  enqueue(flow: AnyFlow, options?: BatchOptions & CallOptions): Promise<EffectFlow.Handle>
  /**
   * Waits for the end of a flow that was enqueued, which may be over already, and gives its result. It
   * rejects with the `JobFailed` of the job that made it fail, with `JobCancelled` when it was
   * cancelled, with `AwaitTimedOut` when it takes longer than `within`. A handle is plain data: it may
   * come from another process.
   */
  await<A>(
    flow: Flow<unknown, A>,
    handle: EffectFlow.Handle,
    options?: AwaitOptions & CallOptions,
  ): Promise<A>
  /** Stores a flow, waits for its end and gives its result, or rejects as `await` does. */
  execute<A>(
    flow: Flow<unknown, A>,
    options?: BatchOptions & AwaitOptions & CallOptions,
  ): Promise<A>
}

/** Makes the flows of whatever runs their effects. */
export const makeFlows = (run: Run): Flows => ({
  enqueue: ({ effect }, options) => {
    const [rest, own] = split(options)
    return run(EffectFlow.enqueue(effect, rest), own)
  },
  await: ({ effect }, handle, options) => {
    const [rest, own] = split(options)
    return run(EffectFlow.await(effect, handle, rest), own)
  },
  execute: ({ effect }, options) => {
    const [rest, own] = split(options)
    return run(EffectFlow.execute(effect, rest), own)
  },
})
