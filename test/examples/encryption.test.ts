import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of encryption", () => {
  effect(
    "shows what is seen with a key and without, and changes the key",
    () =>
      Effect.gen(function* () {
        const lines = yield* linesOf("encryption.ts")
        assert.deepEqual(lines, [
          "with the key: 4111 1111 1111 1111",
          "without it: january",
          "typed: UnreadableRecord",
          "after the rotation: for 1111",
          "and from now on: for 4242",
        ])
      }),
  )
})
