import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of unique jobs", () => {
  effect("tells which jobs are new", () =>
    Effect.gen(function* () {
      const lines = yield* linesOf("unique.ts")
      assert.deepEqual(lines, [
        "report: true false true",
        "report, after its end: true",
        "reindex: revision 3",
        "charge: JobExists",
        "throttled: true false false",
      ])
    }))
})
