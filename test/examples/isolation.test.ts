import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of isolation", () => {
  effect("goes on while threads work, die, and never end", () =>
    Effect.gen(function* () {
      assert.deepEqual(yield* linesOf("isolation.ts"), [
        "2021 = 43 × 47",
        "hello, meanwhile",
        "failed: the thread that ran it ended with code 1",
        "failed: the attempt took longer than its limit of 2000 ms",
        "9991 = 97 × 103",
      ])
    }))
})
