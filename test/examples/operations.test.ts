import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("../../examples/operations.ts", import.meta.url)

describe("the example of operations", () => {
  effect("changes the jobs that it means", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
      assert.equal(yield* program.exited, 0, program.stderr())
      assert.deepEqual(program.lines, [
        "sooner: changed",
        "cancel as seen: conflict",
        "requeue: not while scheduled",
        "cancel: scheduled to cancelled",
        "would requeue: 3",
        "requeued: 3",
        "sent to bob",
        "sent to eve",
        "sent to joe",
        "moved and cancelled: 2 2",
      ])
    }))
})
