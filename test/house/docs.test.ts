import assert from "node:assert/strict"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { describe, it } from "node:test"
import { deno, manifest, root, text } from "./tree.ts"

describe("every exported symbol", () => {
  const doors = Object.values(manifest("deno.json").exports).map(String)
    .filter((path) => existsSync(join(root, path)))

  it("has a doc comment", { skip: doors.length === 0 }, async () => {
    const { said } = await deno("doc", "--lint", ...doors)
    // Its other findings can't be avoided: a public type that names a type of effect is one.
    const missing = [...said.matchAll(/error\[missing-jsdoc\].*\n\s*--> (.+):(\d+):\d+/g)]
      .map(([, path = "", line = ""]) => ({ path: path.replace(root, ""), line: Number(line) }))
      // A field of an interface, such as a `_tag`, is no symbol.
      .filter(({ path, line }) => /^\S/.test(text(path).split("\n")[line - 1] ?? ""))
      .map(({ path, line }) => `${path}:${line}`)
    assert.deepEqual(missing, [], "a module that is exported whole needs a header with @module")
  })
})
