// Everything about the sources that needs no test run: form, lint, types on the three runtimes, and
// whether both registries would take the package.

import { spawnSync } from "node:child_process"
import { join } from "node:path"
import process from "node:process"
import { build, checkForBun } from "./compiler.mjs"
import { deno, root, setup } from "./setup.mjs"

setup()

const run = (command, ...args) =>
  spawnSync(command, args, { cwd: root, stdio: "inherit" }).status === 0

const compile = (step) => {
  const { good, complaints } = step()
  process.stdout.write(complaints)
  return good
}

const steps = {
  "deno fmt --check": () => run(deno, "fmt", "--check"),
  "deno lint": () => run(deno, "lint"),
  "deno check": () => run(deno, "check", "--quiet"),
  "types for Bun": () => compile(checkForBun),
  "deno publish --dry-run": () => run(deno, "publish", "--dry-run", "--allow-dirty", "--quiet"),
  "build": () => compile(build),
  "publint": () =>
    run(
      process.execPath,
      join(root, "node_modules/publint/src/cli.js"),
      "--strict",
      "--pack=false",
    ),
}

let failed = 0
for (const [name, step] of Object.entries(steps)) {
  const started = performance.now()
  const good = step()
  if (!good) failed++
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  console.log(`${good ? "ok  " : "FAIL"} ${name}  ${seconds} s`)
}
process.exit(failed === 0 ? 0 : 1)
