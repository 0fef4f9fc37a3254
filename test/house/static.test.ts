import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { deno, runtime } from "./tree.ts"

const passes = async (...args: ReadonlyArray<string>): Promise<void> => {
  const { status, said } = await deno(...args)
  const lines = said.trim().split("\n")
  if (status !== 0) assert.fail([...lines.slice(0, 40), lines.at(-1)].join("\n"))
}

// They take seconds and say the same everywhere.
const skip = runtime !== "deno"

describe("the sources, checked under Deno alone", () => {
  it("are formatted", { skip }, () => passes("fmt", "--check"))

  it("are free of lint", { skip }, () => passes("lint"))

  it("have types that fit", { skip, timeout: 120_000 }, () => passes("check", "--quiet"))

  it(
    "would be taken by JSR",
    { skip },
    () => passes("publish", "--dry-run", "--allow-dirty", "--no-check", "--quiet"),
  )

  it("have explicit public types, which fit beside the types of Bun too", { skip }, async () => {
    const { checkForBun } = await import("../../scripts/compiler.mjs")
    const { good, complaints } = checkForBun()
    assert.ok(good, complaints)
  })
})
