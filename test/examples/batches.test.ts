import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of batches", () => {
  effect("ends with a failure, and again without", () =>
    Effect.gen(function* () {
      const lines = yield* linesOf("batches.ts")
      assert.deepEqual(lines, [
        "import: completed, 5 of 6 members succeeded",
        "report: something failed",
        "import: succeeded, 6 of 6 members succeeded",
        "Failure: JobNotFound",
      ])
    }))
})
