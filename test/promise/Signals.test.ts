import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("programs/server.ts", import.meta.url)

describe("a server with promises that listens to signals", () => {
  effect(
    "stops gracefully on SIGTERM and lets its process come to its end",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        const program = yield* spawnProgram(file, { env: { DATA_DIR: folder } })
        yield* program.waitForLine("started")
        program.kill("SIGTERM")
        assert.equal(yield* program.exited, 0, program.stderr())
        assert.deepEqual(program.lines, ["started", "draining", "succeeded"])
        assert.match(program.stderr(), /^SIGTERM: stopping/m)
      }),
  )
})
