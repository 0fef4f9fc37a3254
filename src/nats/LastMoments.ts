/** Things to do when the process ends without having closed its scopes: `process.exit`, a throw. */
import process from "node:process"

const pending = new Set<() => void>()
let listening = false

const runAll = (): void => {
  for (const act of [...pending]) {
    pending.delete(act)
    try {
      act()
    } catch {
      // Nobody is left to tell.
    }
  }
}

/** Deno tells of an uncaught error by these events only, and lets a handler save the process. */
const runUnlessHandled = (event: Event): void => {
  const handled = event.defaultPrevented || process.listenerCount("uncaughtException") > 0 ||
    process.listenerCount("unhandledRejection") > 0
  if (!handled) runAll()
}

/** Calls `act`, which must be synchronous, when the process ends; returns the cancellation. */
export const atExit = (act: () => void): () => void => {
  if (!listening) {
    listening = true
    process.on("exit", runAll)
    if ("Deno" in globalThis) {
      globalThis.addEventListener("unload", runAll)
      globalThis.addEventListener("error", runUnlessHandled)
      globalThis.addEventListener("unhandledrejection", runUnlessHandled)
    }
  }
  pending.add(act)
  return () => {
    pending.delete(act)
  }
}
