import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of continuations", () => {
  effect("tells what follows what", () =>
    Effect.gen(function* () {
      const lines = yield* linesOf("continuations.ts")
      assert.deepEqual(lines, [
        "sum: <17>",
        "clean up: tidy after failed",
        "never: JobCancelled true",
        "late: <17>",
        "missing: JobNotFound",
        "parents: succeeded succeeded succeeded",
      ])
    }))
})
