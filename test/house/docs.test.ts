import assert from "node:assert/strict"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { describe, it } from "node:test"
import { deno, manifest, root } from "./tree.ts"

describe("every exported symbol", () => {
  const doors = Object.values(manifest("deno.json").exports).map(String)
    .filter((path) => existsSync(join(root, path)))

  it("has a doc comment", { skip: doors.length === 0 }, async () => {
    const { said } = await deno("doc", "--lint", ...doors)
    // Its other findings can't be avoided: a public type that names a type of effect is one.
    const missing = [...said.matchAll(/error\[missing-jsdoc\].*\n\s*--> (.+)/g)]
      .map(([, place = ""]) => place.replace(root, ""))
    assert.deepEqual(missing, [], "a module that is exported whole needs a header with @module")
  })
})
