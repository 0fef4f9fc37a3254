import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("../../examples/timeouts.ts", import.meta.url)

describe("the example of timeouts", () => {
  effect("ends each job as it should", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
      assert.equal(yield* program.exited, 0, program.stderr())
      assert.deepEqual(program.lines, [
        "fetch: attempt 2",
        "report: JobFailed",
        "hint: succeeded ",
        "hint: cancelled not begun within its time to live of 500 ms",
      ])
    }))
})
