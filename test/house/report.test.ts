import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { count } from "../../scripts/report.mjs"

const report = (body: string): string => `<?xml version="1.0"?>\n<testsuites>${body}</testsuites>\n`

describe("report.count", () => {
  it("counts passed, failed and skipped tests", () => {
    assert.deepEqual(
      count(report(`
        <testcase name="a" time="0"/>
        <testcase name="b > c" time="0" failure="1 !== 2"><failure type="x">text</failure></testcase>
        <testcase name="d" time="0"><skipped type="todo" message="true"/></testcase>
        <testcase name="e" time="0"></testcase>`)),
      { passed: 2, failed: 1, skipped: 1 },
    )
  })

  it("leaves out the describe blocks in a report of Deno", () => {
    assert.deepEqual(
      count(report(`
        <testcase name="Outer &amp; co"><failure message="1 test step failed">x</failure></testcase>
        <testcase name="Outer &amp; co &gt; a"></testcase>
        <testcase name="Outer &amp; co &gt; b"><failure message="Uncaught">x</failure></testcase>
        <testcase name="Outer &amp; co &gt; Inner"></testcase>
        <testcase name="Outer &amp; co &gt; Inner &gt; c"></testcase>`)),
      { passed: 2, failed: 1, skipped: 0 },
    )
  })

  it("counts a describe block that fails by itself", () => {
    assert.deepEqual(
      count(report(`
        <testcase name="bad"><failure message="Uncaught Error: after">x</failure></testcase>
        <testcase name="bad &gt; fine"></testcase>`)),
      { passed: 1, failed: 1, skipped: 0 },
    )
  })

  it("counts a cancelled test as failed", () => {
    assert.deepEqual(
      count(report(`<testcase name="exits"><error message="Cancelled"/></testcase>`)),
      { passed: 0, failed: 1, skipped: 0 },
    )
  })

  it("has no answer for a report that breaks off", () => {
    assert.equal(count(`<?xml version="1.0"?>\n<testsuites>\n`), undefined)
  })
})
