import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("../../examples/versions.ts", import.meta.url)

describe("the example of versions", () => {
  effect("runs the job of the old form as one of the new", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
      assert.equal(yield* program.exited, 0, program.stderr())
      assert.deepEqual(program.lines, [
        "Dear Grace Hopper",
        "Dear Ada Lovelace",
        'enqueued as version 1, read as {"first":"Ada","last":"Lovelace"}',
      ])
    }))
})
