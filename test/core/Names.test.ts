import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { InvalidOptions } from "../../src/core/errors.ts"
import { checkJobName, checkKeys, checkName, show } from "../../src/core/Names.ts"

const legal = ["a", "Z9", "0", "mail", "a-b_c", "x".repeat(64), "a--__", "9-"]

const illegal: ReadonlyArray<unknown> = [
  "",
  "_a",
  "-a",
  "/a",
  "a b",
  "a.b",
  "a*",
  "a>",
  "*",
  "x".repeat(65),
  "a\n",
  "\na",
  "a\0",
  "ä",
  "名",
  "a\u200b",
  "$JS",
  undefined,
  null,
  5,
  {},
  ["mail"],
  Symbol("a"),
]

describe("names", () => {
  it("have letters, digits, underscores and dashes, and begin with one of the first two", () => {
    for (const name of legal) assert.equal(checkName("queue", name), undefined, name)
  })

  it("of anything else are refused with the field and the value", () => {
    for (const name of illegal) {
      const error = checkName("queue", name)
      assert.ok(error instanceof InvalidOptions, String(name))
      assert.equal(error._tag, "InvalidOptions")
      assert.equal(error.field, "queue")
      assert.equal(error.value, show(name))
      assert.match(error.message, /^queue: .* is not accepted: a name has 1 to 64 letters/s)
    }
  })

  it("of jobs may hold slashes in addition", () => {
    for (const name of [...legal, "mail/welcome", "a/b/c", "a//b", "a/"]) {
      assert.equal(checkJobName("name", name), undefined, name)
    }
    for (const name of illegal) assert.equal(checkJobName("name", name)?.field, "name")
    assert.ok(checkName("queue", "mail/welcome"), "a queue is a token of a subject")
  })
})

describe("options", () => {
  it("with an unknown key are refused with its path and the keys that are known", () => {
    const error = checkKeys("options", { queue: "a", priorty: "high" }, ["queue", "priority"])
    assert.equal(error?.field, "options.priorty")
    assert.equal(error?.value, '"high"')
    assert.match(error?.reason ?? "", /known are queue, priority/)
  })

  it("with an inherited or missing key are accepted", () => {
    assert.equal(checkKeys("options", Object.create({ other: 1 }), ["queue"]), undefined)
    assert.equal(checkKeys("options", {}, ["queue"]), undefined)
  })

  it("with a key that objects inherit are refused too", () => {
    for (const key of ["__proto__", "constructor", "toString"]) {
      const options = JSON.parse(`{"${key}": 1}`) as object
      assert.equal(checkKeys("options", options, ["queue"])?.field, `options.${key}`)
    }
  })

  it("that are no object are refused", () => {
    for (const options of [null, undefined, 5, "queue", true, Symbol("a")]) {
      assert.equal(checkKeys("options", options, ["queue"])?.field, "options")
    }
  })
})

describe("a shown value", () => {
  it("is quoted when it is a text, and never longer than a line", () => {
    assert.equal(show('a "b"'), '"a \\"b\\""')
    assert.equal(show("x".repeat(500)).length, 80)
    assert.ok(show("x".repeat(500)).endsWith("..."))
  })

  it("exists for every kind of value", () => {
    const values = [Number.NaN, -0, 5n, Symbol("s"), undefined, null, {}, [], () => 1]
    for (const value of values) assert.equal(typeof show(value), "string")
    assert.equal(show({ password: "secret" }), "[object Object]")
  })
})
