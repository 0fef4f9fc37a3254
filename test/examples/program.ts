/** Runs an example as a reader would. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { spawnProgram, temporaryFolder } from "../harness.ts"

/** What an example prints, once it has ended well; its store lies in a folder of its own. */
export const linesOf = (
  example: string,
): Effect.Effect<ReadonlyArray<string>, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder
    const file = new URL(`../../examples/${example}`, import.meta.url)
    const program = yield* spawnProgram(file, { env: { PORTFIRE_DATA_DIR: folder } })
    assert.equal(yield* program.exited, 0, program.stderr())
    return program.lines
  })
