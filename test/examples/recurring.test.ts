import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of recurring jobs", () => {
  effect("runs by the clock and does what a person asks for", () =>
    Effect.gen(function* () {
      const [between, ...lines] = yield* linesOf("recurring.ts")
      assert.match(between ?? "", /^between two heartbeats: \d+000 ms$/)
      assert.deepEqual(lines, [
        "digest/sales runs digest and is active",
        "heartbeat runs heartbeat and is active",
        "heartbeat: paused",
        "digest for sales",
        "by hand: true succeeded",
        "half past two, or what comes after: 2030-03-31T01:00:00.000Z",
        "half past two, or what comes after: 2030-04-01T00:30:00.000Z",
        "changed: digest/sales removed: heartbeat",
      ])
    }))
})
