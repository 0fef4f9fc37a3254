/**
 * A short run of the torture on the runtime of the test: everything else is `npm run torture`.
 * `PORTFIRE_SEED` repeats the choices of an earlier run.
 */
import assert from "node:assert/strict"
import { mkdtempSync, realpathSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { describe, it } from "node:test"
import type { Options } from "./torture/Options.ts"
import * as Torture from "./torture/Torture.ts"

const seed = Number(process.env["PORTFIRE_SEED"] ?? Date.now() % 1_000_000)

describe("A system of real processes", () => {
  it(`keeps its promises under faults at random (seed ${seed})`, { timeout: 120_000 }, async () => {
    const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : []
    const runtime = { name: "own", command: [process.execPath, ...flags] }
    const said: Array<string> = []
    const options: Options = {
      seed,
      millis: 5_000,
      // Those over which a system gets without the watchdog, which takes its time.
      only: [
        "killServers",
        "stopServers",
        "rollingRestart",
        "killProducers",
        "oneWayNetwork",
        "resetNetwork",
        "endlessHandler",
        "exitingHandler",
        "throwingFinalizer",
      ],
      cluster: false,
      runtimes: [runtime, runtime],
      producers: 1,
      pauseMillis: 100,
      settleMillis: 60_000,
      say: (text) => said.push(text),
    }
    const folder = mkdtempSync(join(realpathSync(tmpdir()), "portfire-test-"))
    try {
      const { numbers, stories, violations } = await Torture.run(options, folder)
      const wrong = violations.map(({ id, rule, text }) => `${rule} ${id} ${text}`)
      assert.deepEqual(wrong, [], [`seed ${seed}`, ...said, ...wrong, ...stories].join("\n"))
      assert.ok((numbers["jobs with a record"] ?? 0) > 50)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
