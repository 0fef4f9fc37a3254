import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("../../examples/first-job.ts", import.meta.url)

describe("the first job", () => {
  effect("runs, shows its result and leaves nobody behind", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
      assert.equal(yield* program.exited, 0, program.stderr())
      assert.deepEqual(program.lines, ["Hello, Ada!"])
      assert.deepEqual(readdirSync(join(folder, "users")), [])
      assert.deepEqual(readdirSync(join(folder, "ports")), [])
    }))
})
