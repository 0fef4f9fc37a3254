import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { describe } from "node:test"
import { effect, spawnProgram, temporaryFolder } from "../harness.ts"

const file = new URL("../../examples/progress.ts", import.meta.url)

describe("the example of progress", () => {
  effect("shows what the job says while it runs, and ends with it", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
      assert.equal(yield* program.exited, 0, program.stderr())
      assert.deepEqual(program.lines.filter((line) => !line.includes("%")), [
        "Info: reading a.csv",
        "Info: reading b.csv",
        "Info: reading c.csv",
        "Warn: the last file was empty",
        "ended with 4 lines",
      ])
      const progress = program.lines.filter((line) => line.includes("%"))
      assert.equal(progress.at(-1), "100 %")
      const numbers = progress.map((line) => Number.parseInt(line))
      assert.deepEqual(numbers, numbers.toSorted((a, b) => a - b))
      assert.deepEqual(readdirSync(join(folder, "users")), [])
    }))
})
