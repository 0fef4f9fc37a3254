// Runs the demonstration under Bun, with the arguments, the terminal and the exit code passed on.

import { spawn } from "node:child_process"
import process from "node:process"
import { bun, root, setup } from "./setup.mjs"

setup()

const demo = spawn(bun, ["examples/demo/main.ts", ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
  // A Ctrl-C reaches this process once from the terminal and once more from npm. In a group of its
  // own the demonstration hears only what is passed on below: one signal for one key.
  detached: process.platform !== "win32",
})

const echo = 250
let last = 0
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    const now = performance.now()
    if (last !== 0 && now - last < echo) return
    last = now
    demo.kill(signal)
  })
}
process.on("SIGWINCH", () => demo.kill("SIGWINCH"))

demo.on("error", (error) => {
  console.error(`Bun could not be started: ${error.message}`)
  process.exit(1)
})
demo.on("exit", (code, signal) => {
  if (signal === null) process.exit(code)
  process.removeAllListeners(signal)
  process.kill(process.pid, signal)
})
