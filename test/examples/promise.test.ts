import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of promises", () => {
  effect(
    "shows a result, a retry, a failure and a refusal, and comes to its end",
    () =>
      Effect.gen(function* () {
        const lines = yield* linesOf("promise.ts")
        assert.deepEqual(lines, [
          "Hello, ada@example.org",
          "Saluton, busy@example.org",
          "the mailbox is busy, then succeeded",
          "failed: there is no such host",
          "refused: payload.to - an address is expected",
        ])
      }),
  )
})
