import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of middleware", () => {
  effect(
    "carries a tenant, refuses another, and tells of transitions",
    () =>
      Effect.gen(function* () {
        const lines = yield* linesOf("middleware.ts")
        // The server and the caller know of the end at the same time.
        assert.deepEqual([...lines].sort(), [
          "May for acme",
          "job report: the middleware tenants refused it: the account is closed",
          "report is enqueued",
          "report is processing",
          "report is succeeded",
        ])
      }),
  )
})
