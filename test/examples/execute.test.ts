import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("../../examples/execute.ts", import.meta.url)

describe("the example of results", () => {
  effect(
    "shows a result, a typed error, a failure, and a job awaited again",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
        assert.equal(yield* program.exited, 0, program.stderr())
        assert.deepEqual(program.lines, [
          "three apples: costs 7.5",
          "a unicorn: there is no unicorn",
          "no apple: failed: no count",
          "a safe: not within 100 ms",
          "a safe: costs 99",
        ])
      }),
  )
})
