import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of timeouts", () => {
  effect("ends each job as it should", () =>
    Effect.gen(function* () {
      const lines = yield* linesOf("timeouts.ts")
      assert.deepEqual(lines, [
        "fetch: attempt 2",
        "report: JobFailed",
        "hint: succeeded ",
        "hint: cancelled not begun within its time to live of 500 ms",
      ])
    }))
})
