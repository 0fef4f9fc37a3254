/**
 * Portfire at work: a job for every file of a folder, two server processes, one of which is killed,
 * and an account of every job at the end. `npm start`, or:
 *
 *     bun examples/demo/main.ts    deno run -A examples/demo/main.ts    node examples/demo/main.ts
 */
import process from "node:process"
import { help, parse } from "./options.ts"
import type { Progress, Request } from "./run.ts"

const signals = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 }
/** npm, timeout and their like pass on what has reached this process already. */
const echoMillis = 500

const perform = async (request: Request): Promise<void> => {
  const [Cause, Effect, { run }, { Screen }, { killAll }] = await Promise.all([
    import("effect/Cause"),
    import("effect/Effect"),
    import("./run.ts"),
    import("./screen.ts"),
    import("./servers.ts"),
  ])
  const screen = new Screen()
  const progress: Progress = { done: 0, total: 0, code: undefined }
  const fiber = Effect.runFork(run(screen, request, progress))

  let code: number | undefined
  let stopping = 0
  const stop = (signal: keyof typeof signals) => {
    if (code === undefined) {
      code = progress.code ?? signals[signal]
      stopping = performance.now()
      screen.line(`  ${signal}: stopping …`)
      fiber.interruptUnsafe()
    } else if (performance.now() - stopping > echoMillis) {
      // Asked again: the servers get no time any more. What waits for their end goes on at once.
      killAll()
    }
  }
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => stop(signal))
  }
  // Whoever read the output is gone.
  process.stdout.on("error", () => fiber.interruptUnsafe())

  fiber.addObserver((exit) => {
    if (exit._tag === "Success") return process.exit(progress.code ?? 1)
    if (Cause.hasInterruptsOnly(exit.cause)) {
      if (progress.code === undefined) {
        screen.line(
          `  stopped after ${progress.done} of ${progress.total} jobs; nothing is left running`,
        )
      }
      return process.exit(code ?? 1)
    }
    const error = Cause.squash(exit.cause)
    if (progress.total > 0) screen.line()
    process.stderr.write(
      `${"_tag" in (error as object) ? (error as Error).message : Cause.pretty(exit.cause)}\n`,
    )
    process.exit((error as { readonly code?: number }).code ?? 1)
  })
}

const command = parse(process.argv.slice(2))
switch (command.kind) {
  case "help":
    console.log(help)
    break
  case "refused":
    console.error(`${command.reason}. See npm start -- --help.`)
    process.exitCode = 2
    break
  case "run":
    await perform(command)
}
