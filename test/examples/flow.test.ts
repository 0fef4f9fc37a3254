import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("../../examples/flow.ts", import.meta.url)

describe("the example of workflows", () => {
  effect(
    "shows a result, a handle, and the error of the job that failed",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
        assert.equal(yield* program.exited, 0, program.stderr())
        assert.deepEqual(program.lines, [
          "summer: 2 images behind summer/1.small.jpg",
          "winter: 2 images behind winter/1.small.jpg",
          "album winter: succeeded",
          "ruin: ruin/x.raw is unreadable",
        ])
      }),
  )
})
