/** The server's side of an isolated job: a handler whose attempts run in workers. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { MinimumLogLevel } from "effect/References"
import * as Tracer from "effect/Tracer"
import { CurrentJob, factsOf } from "../../src/client/CurrentJob.ts"
import type { Definition } from "../../src/client/Definition.ts"
import { makeKey, type RegisteredHandler } from "../../src/client/Handler.ts"
import type { Handler } from "../../src/client/Job.ts"
import type { InvalidOptions } from "../../src/core/errors.ts"
import { Discard, Snooze, Veto } from "../../src/core/Signal.ts"
import * as TraceContext from "../../src/core/TraceContext.ts"
import { RunningJob } from "../RunningJob.ts"
import * as Crew from "./Crew.ts"
import { type IsolatedOptions, resolve } from "./Options.ts"
import * as Port from "./Port.ts"
import { compact, type End, type JobFacts, type Order } from "./Protocol.ts"
import type { Transport } from "./Transport.ts"

/** The module of an isolated job could not be started. */
export class IsolatedFailed extends Data.Error<{
  /** Name of the job. */
  readonly job: string
  /** Where its module lies. */
  readonly module: string
  /** Why. */
  readonly reason: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "IsolatedFailed"
  /** Name in stack traces. */
  override readonly name = "IsolatedFailed"
  /** One sentence a person can act on. */
  override get message(): string {
    return `job ${this.job}: its worker ${this.module} could not be started: ${this.reason}`
  }
}

/** What a handler threw elsewhere, with the stack it had there. */
class Thrown extends Error {
  constructor({ message, stack }: End) {
    super(message)
    // The stack of this place would say nothing.
    Object.assign(this, { stack })
  }
}

/** A typed error that its own schema refuses, so that it couldn't get here. */
class Unfit extends Thrown {}

const nothing = new Uint8Array(0)

/** The definition for the server: it knows what stands for an error that isn't there. */
const locally = (definition: Definition, kind: Definition["isolation"]): Definition => {
  const { error } = definition
  const encodeWith =
    (encode: Definition["error"]["encode"]): Definition["error"]["encode"] => (value) =>
      value instanceof Unfit ? Exit.succeed(nothing) : encode(value)
  return {
    ...definition,
    isolation: kind,
    error: {
      ...error,
      encode: encodeWith(error.encode),
      encodeShared: encodeWith(error.encodeShared),
    },
  }
}

const factsToSend = (job: CurrentJob): JobFacts => ({
  ...factsOf(job),
  context: { ...job.context },
  parents: job.parents.map(({ id, outcome }) => ({
    id,
    outcome: outcome?.result === undefined
      ? outcome
      : { ...outcome, result: compact(outcome.result) },
  })),
})

const orderOf = (job: RunningJob, services: Context.Context<never>): Order => {
  const { payload = nothing, version } = job.input
  const span = Context.getOrUndefined(services, Tracer.ParentSpan)
  return {
    payload: compact(payload),
    version,
    job: factsToSend(job),
    maxPayload: job.maxPayload,
    level: Context.get(services, MinimumLogLevel),
    trace: span === undefined ? undefined : TraceContext.print(span),
  }
}

/** The end of a run as that of an effect which ran here. */
const exitOf = (end: End, transport: Transport): Effect.Effect<unknown, unknown> => {
  const { ending, error, message = "", result = nothing, snooze = 0 } = end
  switch (ending) {
    case "succeeded":
      return Effect.orDie(transport.result(result))
    case "discarded":
      return Effect.die(new Discard(message))
    case "vetoed":
      return Effect.die(new Veto(message))
    case "snoozed":
      return Effect.die(new Snooze(snooze))
    case "failed":
      if (error === undefined) return Effect.fail(new Unfit(end))
      return Effect.flatMap(Effect.orDie(transport.unpackError(error)), (value) => {
        if (value instanceof Error) Object.assign(value, { stack: end.stack })
        return Effect.fail(value)
      })
    default:
      return Effect.die(new Thrown(end))
  }
}

/** See `Isolated.layer`. */
export const layer = <Name extends string>(
  definition: Definition,
  transport: Transport,
  module: URL | string,
  options: IsolatedOptions,
): Layer.Layer<Handler<Name>, IsolatedFailed | InvalidOptions> =>
  Layer.effect(
    makeKey<Handler<Name>>(definition.name),
    Effect.gen(function* () {
      const { isolation: kind = "thread", name } = definition
      const resolved = resolve(name, kind, module, options)
      if ("_tag" in resolved) return yield* resolved
      const failed = (reason: string) =>
        new IsolatedFailed({ job: name, module: resolved.module.href, reason })
      if (Port.jobHere !== undefined) {
        return yield* failed(
          `this program is itself a worker, of the job ${Port.jobHere}; ` +
            "what calls serve belongs in a module that starts no server",
        )
      }
      const context = yield* Effect.context<never>()
      const crowded = Effect.logWarning(
        `all ${resolved.workers} workers of the job ${name} are busy, so attempts wait for one; ` +
          "give it a queue of its own with as many slots",
      )
      const onCrowded = () => void Effect.runForkWith(context)(crowded)
      const crew = yield* Crew.make({ ...resolved, onCrowded })
      const reason = yield* crew.warmUp
      if (reason !== undefined) return yield* failed(reason)

      const attempt = Effect.gen(function* () {
        const job = yield* CurrentJob
        if (!(job instanceof RunningJob)) {
          return yield* Effect.die(new Error("an isolated handler runs in a server alone"))
        }
        const services = yield* Effect.context<CurrentJob>()
        const order = orderOf(job, services)
        job.waits(true)
        const end = yield* crew.run(order, {
          begun: () => job.waits(false),
          progress: (value) => job.report(value),
          line: ({ annotations, level, text }) => {
            const line = Effect.annotateLogs(Effect.logWithLevel(level)(text), annotations)
            Effect.runForkWith(services)(line)
          },
        })
        return yield* exitOf(end, transport)
      })
      const registered: RegisteredHandler = {
        definition: locally(definition, kind),
        context,
        // Each attempt is given the current job.
        run: () => attempt as Effect.Effect<unknown, unknown>,
      }
      return registered
    }),
  )
