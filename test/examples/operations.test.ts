import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of operations", () => {
  effect("changes the jobs that it means", () =>
    Effect.gen(function* () {
      const lines = yield* linesOf("operations.ts")
      assert.deepEqual(lines, [
        "sooner: changed",
        "cancel as seen: conflict",
        "requeue: not while scheduled",
        "cancel: scheduled to cancelled",
        "would requeue: 3",
        "requeued: 3",
        "sent to bob",
        "sent to eve",
        "sent to joe",
        "moved and cancelled: 2 2",
      ])
    }))
})
