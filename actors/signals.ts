/** The signals that end a process: the first one gracefully, the second one at once. */
import process from "node:process"

/** Exit code of a process that a second signal stopped at once: that of an interrupted program. */
const stoppedAtOnce = 130

/** A second signal that comes sooner than this is the echo of the first. */
const echoMillis = 500

/** Calls `stop` at the first SIGINT or SIGTERM and exits at the second; gives what ends this. */
export const onSignals = (stop: () => void): () => void => {
  let stopping: number | undefined
  const onSignal = (signal: string) => {
    if (stopping !== undefined) {
      // A shell and its package runner may both pass the same key on.
      if (performance.now() - stopping < echoMillis) return
      process.exit(stoppedAtOnce)
    }
    stopping = performance.now()
    process.stderr.write(
      `${signal}: stopping, running jobs get their grace period; ` +
        "again to stop at once\n",
    )
    stop()
  }
  process.on("SIGINT", onSignal)
  process.on("SIGTERM", onSignal)
  return () => {
    process.removeListener("SIGINT", onSignal)
    process.removeListener("SIGTERM", onSignal)
  }
}
