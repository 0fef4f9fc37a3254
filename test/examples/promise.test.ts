import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("../../examples/promise.ts", import.meta.url)

describe("the example of promises", () => {
  effect(
    "shows a result, a retry, a failure and a refusal, and comes to its end",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
        assert.equal(yield* program.exited, 0, program.stderr())
        assert.deepEqual(program.lines, [
          "Hello, ada@example.org",
          "Saluton, busy@example.org",
          "the mailbox is busy, then succeeded",
          "failed: there is no such host",
          "refused: payload.to - an address is expected",
        ])
      }),
  )
})
