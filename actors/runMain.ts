/** Runs a server as the main thing of a process: until a signal, then gracefully down. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import process from "node:process"
import { Server } from "./Server.ts"
import { onSignals } from "./signals.ts"

/**
 * Runs a layer, usually `Server.layer` with its handlers and its connection, until SIGINT or SIGTERM;
 * then stops it gracefully. A second signal stops the process at once: its jobs run elsewhere after
 * one ack wait.
 *
 * The process ends with code 0 after a graceful stop, 1 when the layer or the server failed (its
 * message goes to stderr), 130 after a second signal.
 *
 * @example
 * ```ts ignore
 * Server.runMain(Live)
 * ```
 */
export const runMain = <A, E>(layer: Layer.Layer<A, E>): void => {
  const program = Effect.flatMap(
    Layer.build(layer),
    (context) =>
      Option.match(Context.getOption(context as Context.Context<never>, Server), {
        onNone: () => Effect.never,
        onSome: (server) => server.awaitExit,
      }),
  )
  const fiber = Effect.runFork(Effect.scoped(program))
  const ignoreSignals = onSignals(() => fiber.interruptUnsafe())
  fiber.addObserver((exit) => {
    ignoreSignals()
    if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) process.exit(0)
    const error = Cause.squash(exit.cause)
    process.stderr.write(`${error instanceof Error ? error.message : Cause.pretty(exit.cause)}\n`)
    process.exit(1)
  })
}
