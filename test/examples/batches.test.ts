import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("../../examples/batches.ts", import.meta.url)

describe("the example of batches", () => {
  effect("ends with a failure, and again without", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
      assert.equal(yield* program.exited, 0, program.stderr())
      assert.deepEqual(program.lines, [
        "import: completed, 5 of 6 members succeeded",
        "report: something failed",
        "import: succeeded, 6 of 6 members succeeded",
        "Failure: JobNotFound",
      ])
    }))
})
