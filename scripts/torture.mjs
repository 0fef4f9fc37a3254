// Hurts a system of real processes at random and checks that it kept its promises. Arguments: --help.

import { spawn } from "node:child_process"
import process from "node:process"
import { bun, deno, node } from "./runtimes.mjs"
import { root, setup } from "./setup.mjs"

setup()

const torture = spawn(bun, ["test/faults/torture/main.ts", ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
  env: { ...process.env, PORTFIRE_BUN: bun, PORTFIRE_DENO: deno, PORTFIRE_NODE: node() },
})
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => torture.kill(signal))
}
torture.on("exit", (code) => process.exit(code ?? 1))
