/** Async functions as handlers in threads and processes of their own. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type { CurrentJob } from "../../src/client/CurrentJob.ts"
import type { Definition as EngineDefinition } from "../../src/client/Definition.ts"
import type * as EffectJob from "../../src/client/Job.ts"
import { describe } from "../../src/core/Attempt.ts"
import type { InvalidOptions } from "../../src/core/errors.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Binding from "../isolated/Binding.ts"
import * as Guest from "../isolated/Guest.ts"
import type { IsolatedOptions } from "../isolated/Options.ts"
import * as Transport from "../isolated/Transport.ts"
import * as codecs from "./codecs.ts"
import type { Definition } from "./Definition.ts"
import { failureOf, type HandlerContext, partsOf } from "./Handler.ts"
import { plainOf } from "./plain.ts"
import { fromAsync } from "./run.ts"

/** A handler that runs in threads or processes. */
export type IsolatedHandler<Name extends string = string> = Layer.Layer<
  EffectJob.Handler<Name>,
  Binding.IsolatedFailed | InvalidOptions
>

/** What an isolated handler is told: all but a client, for which it may connect by itself. */
export type IsolatedContext = Omit<HandlerContext, "client">

/** Most bytes of an error's own fields; what is larger stays behind. */
const maxFieldBytes = 16 * 1024

/** What retry policies decide by: name, message and such fields as plain data can have. */
const packError = (error: unknown): Uint8Array => {
  const own = error instanceof Error ? Object.entries(error) : []
  const fields = own.flatMap(([name, value]) => {
    const kept = plainOf(value)
    return "plain" in kept ? [[name, kept.plain]] : []
  })
  const plain = plainOf(error)
  const value = !(error instanceof Error) && "plain" in plain
    ? { value: plain.plain }
    : { name: error instanceof Error ? error.name : "Error", message: describe(error).message }
  const whole = MessagePack.encode([value, fields])
  return whole.length <= maxFieldBytes ? whole : MessagePack.encode([
    { name: "Error", message: describe(error).message },
    [],
  ])
}

const unpackError = (bytes: Uint8Array): unknown => {
  const [thrown, fields] = MessagePack.decode(bytes) as [
    { readonly value?: unknown; readonly name?: string; readonly message?: string },
    ReadonlyArray<readonly [string, unknown]>,
  ]
  if ("value" in thrown) return thrown.value
  const { message, name } = thrown
  return Object.assign(new Error(message), Object.fromEntries(fields), { name })
}

/** What a schema of this kind makes of a value it may not take again, so values go as they are. */
const asTheyAre = ({ success }: EngineDefinition): Transport.Transport => ({
  result: (bytes) =>
    Effect.sync(() => success === codecs.nothing ? undefined : MessagePack.decode(bytes)),
  packError: (error) => Exit.succeed(packError(error)),
  unpackError: (bytes) => Effect.sync(() => unpackError(bytes)),
})

const transportOf = (definition: EngineDefinition): Transport.Transport =>
  definition.error === codecs.thrownError
    ? asTheyAre(definition)
    : Transport.ofDefinition(definition)

/** See `Job.isolated`. */
export const isolatedOf = <Name extends string>(
  definition: EngineDefinition,
  module: URL | string,
  options: IsolatedOptions,
): IsolatedHandler<Name> =>
  Binding.layer<Name>(definition, transportOf(definition), module, options)

/**
 * In a module that `job.isolated` names: the handler of the job. In any program but the worker that a
 * server started from this module it does nothing. The context's signal, progress and log reach the
 * server and come from there; there is no client, so a handler that needs one connects by itself.
 *
 * @example
 * ```ts
 * import { job, serveIsolated } from "@portfire/portfire/promise"
 *
 * const Render = job("render", { isolation: "process", timeout: "1 minute" })
 *
 * serveIsolated(Render, (_, { progress }) => {
 *   for (let page = 1; page <= 10; page++) progress({ done: page, total: 10 })
 * })
 * ```
 */
export const serveIsolated = <Payload, Output>(
  job: Definition<unknown, Payload, Output>,
  handler: (payload: Payload, context: IsolatedContext) => Output | PromiseLike<Output>,
): void => {
  const { definition } = job
  const failed = (error: unknown) => failureOf(definition.error, error)
  Guest.serve(
    definition,
    transportOf(definition),
    (payload) =>
      Effect.flatMap(
        Effect.context<CurrentJob>(),
        (services) =>
          fromAsync<unknown, unknown>(
            (_, signal) => handler(payload as Payload, partsOf(services, signal)),
            failed,
          ),
      ),
    Layer.empty,
  )
}
