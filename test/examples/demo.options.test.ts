import assert from "node:assert/strict"
import { resolve } from "node:path"
import { describe, it } from "node:test"
import { parse, repository } from "../../examples/demo/options.ts"

describe("the demonstration's arguments", () => {
  it("are none for this repository", () => {
    assert.deepEqual(parse([]), { kind: "run", folder: repository, keep: false })
  })

  it("are a folder and --keep, in any order", () => {
    const both = { kind: "run", folder: resolve("src"), keep: true }
    assert.deepEqual(parse(["src", "--keep"]), both)
    assert.deepEqual(parse(["--keep", "src"]), both)
  })

  it("name a folder with a leading dash after --", () => {
    assert.deepEqual(parse(["--", "--keep"]), {
      kind: "run",
      folder: resolve("--keep"),
      keep: false,
    })
  })

  it("ask for help", () => {
    assert.deepEqual(parse(["--help"]), { kind: "help" })
    assert.deepEqual(parse(["src", "-h"]), { kind: "help" })
  })

  it("are refused with the reason", () => {
    const reasonOf = (...args: ReadonlyArray<string>) => {
      const command = parse(args)
      return command.kind === "refused" ? command.reason : command.kind
    }
    assert.match(reasonOf("--kep"), /no option --kep, only --keep and --help/)
    assert.match(reasonOf("a", "b"), /one folder at a time/)
    assert.match(reasonOf(""), /empty/)
  })
})
