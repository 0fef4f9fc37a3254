/**
 * Handlers that run outside of the server's event loop: in a thread or in a process of their own. For
 * work that keeps the processor busy, that may never end, or that may take its process down.
 *
 * A module serves the job, and the server is told where the module lies:
 *
 * @example
 * ```ts
 * import { Isolated, Job } from "@portfire/portfire"
 * import * as Effect from "effect/Effect"
 * import * as Schema from "effect/Schema"
 *
 * // jobs.ts
 * const Resize = Job.make("resize", {
 *   payload: Schema.Struct({ file: Schema.String }),
 *   isolation: "thread",
 *   timeout: "1 minute",
 * })
 *
 * // resize.worker.ts
 * Isolated.serve(Resize, ({ file }) => Effect.log(`resizing ${file}`))
 *
 * // server.ts, in place of Resize.toLayer
 * const ResizeLive = Isolated.layer(Resize, new URL("./resize.worker.ts", import.meta.url))
 * ```
 *
 * @module
 */
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { CurrentJob } from "../src/client/CurrentJob.ts"
import type { Handler, Job } from "../src/client/Job.ts"
import type { InvalidOptions } from "../src/core/errors.ts"
import * as Binding from "./isolated/Binding.ts"
import * as Guest from "./isolated/Guest.ts"
import type { IsolatedOptions } from "./isolated/Options.ts"
import * as Transport from "./isolated/Transport.ts"

export { IsolatedFailed } from "./isolated/Binding.ts"
export type { IsolatedOptions } from "./isolated/Options.ts"

/**
 * Binds a job to a module that serves it, in place of `toLayer`: each attempt runs in a thread or in a
 * process of its own, as the definition's `isolation` says, or in a thread where it says nothing. One
 * worker is started at once, so that a module that can't be loaded is found out: `IsolatedFailed`.
 *
 * A run that exceeds its time limit, or whose job is cancelled, is interrupted and, where it doesn't
 * end within the grace period, killed with its worker. A worker that ends in the midst of a run has
 * failed that attempt and nothing else. The lease of the job beats meanwhile.
 */
export const layer = <Name extends string, P, A, E>(
  job: Job<Name, P, A, E>,
  module: URL | string,
  options: IsolatedOptions = {},
): Layer.Layer<Handler<Name>, Binding.IsolatedFailed | InvalidOptions> =>
  Binding.layer(job.definition, Transport.ofDefinition(job.definition), module, options)

/** Services of a handler's own: a layer for all of them, where it needs any. */
export type Services<R> = [R] extends [never] ? [layer?: Layer.Layer<never, unknown>]
  : [layer: Layer.Layer<R, unknown>]

/**
 * In a module for {@link layer}: the handler of a job. In any program but the worker that a server
 * started from this module it does nothing. The handler's services come from the layer, which is built
 * once per worker; `Job.current`, `Job.progress` and `Effect.log` reach the server.
 */
export const serve = <Name extends string, P, A, E, R = never>(
  job: Job<Name, P, A, E>,
  handler: (payload: P) => Effect.Effect<A, E, R>,
  ...[services = Layer.empty]: Services<Exclude<R, CurrentJob | Scope.Scope>>
): void =>
  Guest.serve(
    job.definition,
    Transport.ofDefinition(job.definition),
    handler as Parameters<typeof Guest.serve>[2],
    services as Layer.Layer<never, unknown>,
  )
