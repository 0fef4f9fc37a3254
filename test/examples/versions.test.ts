import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of versions", () => {
  effect("runs the job of the old form as one of the new", () =>
    Effect.gen(function* () {
      const lines = yield* linesOf("versions.ts")
      assert.deepEqual(lines, [
        "Dear Grace Hopper",
        "Dear Ada Lovelace",
        'enqueued as version 1, read as {"first":"Ada","last":"Lovelace"}',
      ])
    }))
})
