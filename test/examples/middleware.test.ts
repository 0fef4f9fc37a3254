import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("../../examples/middleware.ts", import.meta.url)

describe("the example of middleware", () => {
  effect(
    "carries a tenant, refuses another, and tells of transitions",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
        assert.equal(yield* program.exited, 0, program.stderr())
        // The server and the caller know of the end at the same time.
        assert.deepEqual([...program.lines].sort(), [
          "May for acme",
          "job report: the middleware tenants refused it: the account is closed",
          "report is enqueued",
          "report is processing",
          "report is succeeded",
        ])
      }),
  )
})
