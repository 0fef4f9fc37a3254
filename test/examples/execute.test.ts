import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of results", () => {
  effect(
    "shows a result, a typed error, a failure, and a job awaited again",
    () =>
      Effect.gen(function* () {
        const lines = yield* linesOf("execute.ts")
        assert.deepEqual(lines, [
          "three apples: costs 7.5",
          "a unicorn: there is no unicorn",
          "no apple: failed: no count",
          "a safe: not within 100 ms",
          "a safe: costs 99",
        ])
      }),
  )
})
