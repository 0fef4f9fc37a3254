import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("../../examples/unique.ts", import.meta.url)

describe("the example of unique jobs", () => {
  effect("tells which jobs are new", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
      assert.equal(yield* program.exited, 0, program.stderr())
      assert.deepEqual(program.lines, [
        "report: true false true",
        "report, after its end: true",
        "reindex: revision 3",
        "charge: JobExists",
        "throttled: true false false",
      ])
    }))
})
