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
let last = -Infinity
function passOn(signal) {
  const now = performance.now()
  if (now - last < echo) return
  last = now
  demo.kill(signal)
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => passOn(signal))
process.on("SIGWINCH", () => demo.kill("SIGWINCH"))

// Whoever started this may die without a word; nobody would be left to stop the demonstration.
const parent = process.ppid
const watch = setInterval(() => {
  if (process.ppid === parent) return
  clearInterval(watch)
  passOn("SIGTERM")
}, 500)

demo.on("error", (error) => {
  console.error(`Bun could not be started: ${error.message}`)
  process.exit(1)
})
demo.on("exit", (code, signal) => {
  if (signal === null) process.exit(code)
  process.removeAllListeners(signal)
  process.kill(process.pid, signal)
})
