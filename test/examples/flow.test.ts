import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of workflows", () => {
  effect(
    "shows a result, a handle, and the error of the job that failed",
    () =>
      Effect.gen(function* () {
        const lines = yield* linesOf("flow.ts")
        assert.deepEqual(lines, [
          "summer: 2 images behind summer/1.small.jpg",
          "winter: 2 images behind winter/1.small.jpg",
          "album winter: succeeded",
          "ruin: ruin/x.raw is unreadable",
        ])
      }),
  )
})
