import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("../../examples/continuations.ts", import.meta.url)

describe("the example of continuations", () => {
  effect("tells what follows what", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
      assert.equal(yield* program.exited, 0, program.stderr())
      assert.deepEqual(program.lines, [
        "sum: <17>",
        "clean up: tidy after failed",
        "never: JobCancelled true",
        "late: <17>",
        "missing: JobNotFound",
        "parents: succeeded succeeded succeeded",
      ])
    }))
})
