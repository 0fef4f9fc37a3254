import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as TraceContext from "../../src/core/TraceContext.ts"

const traceId = "0af7651916cd43dd8448eb211c80319c"
const spanId = "b7ad6b7169203331"

describe("a traceparent", () => {
  it("is read as it was written", () => {
    for (const sampled of [true, false]) {
      const text = TraceContext.print({ traceId, spanId, sampled })
      assert.equal(text, `00-${traceId}-${spanId}-0${sampled ? 1 : 0}`)
      assert.deepEqual(TraceContext.parse(text as string), { traceId, spanId, sampled })
    }
  })

  it("says whether it is sampled in the lowest bit of its flags", () => {
    for (const [flags, sampled] of [["00", false], ["01", true], ["02", false], ["ff", true]]) {
      assert.equal(TraceContext.parse(`00-${traceId}-${spanId}-${flags}`)?.sampled, sampled)
    }
  })

  it("of a later version is read by what this one knows", () => {
    const expected = { traceId, spanId, sampled: true }
    assert.deepEqual(TraceContext.parse(`cc-${traceId}-${spanId}-01`), expected)
    assert.deepEqual(TraceContext.parse(`cc-${traceId}-${spanId}-01-what.the-future`), expected)
  })

  const wrong: ReadonlyArray<readonly [string, string]> = [
    ["nothing", ""],
    ["the forbidden version", `ff-${traceId}-${spanId}-01`],
    ["a trace id of zeros", `00-${"0".repeat(32)}-${spanId}-01`],
    ["a span id of zeros", `00-${traceId}-${"0".repeat(16)}-01`],
    ["capitals in the trace id", `00-${traceId.toUpperCase()}-${spanId}-01`],
    ["capitals in the span id", `00-${traceId}-${spanId.toUpperCase()}-01`],
    ["capitals in the version", `CC-${traceId}-${spanId}-01`],
    ["a short trace id", `00-${traceId.slice(1)}-${spanId}-01`],
    ["a long span id", `00-${traceId}-${spanId}0-01`],
    ["no flags", `00-${traceId}-${spanId}`],
    ["one digit of flags", `00-${traceId}-${spanId}-1`],
    ["flags that are no hex", `00-${traceId}-${spanId}-0g`],
    ["a fifth part in version 00", `00-${traceId}-${spanId}-01-more`],
    ["more flags in a later version", `cc-${traceId}-${spanId}-01.more`],
    ["space around it", ` 00-${traceId}-${spanId}-01`],
    ["a line end after it", `00-${traceId}-${spanId}-01\n`],
    ["other dashes", `00_${traceId}_${spanId}_01`],
  ]
  for (const [what, text] of wrong) {
    it(`is none with ${what}`, () => {
      assert.equal(TraceContext.parse(text), undefined)
    })
  }

  it("fills up a trace id of 64 bits", () => {
    const text = TraceContext.print({ traceId: spanId, spanId, sampled: true })
    assert.equal(text, `00-${"0".repeat(16)}${spanId}-${spanId}-01`)
  })

  it("is not written for a span without an identity", () => {
    for (
      const [trace, span] of [
        ["noop", "noop"],
        [traceId, "0".repeat(16)],
        ["", spanId],
        [traceId, spanId.toUpperCase()],
        [`${traceId}00`, spanId],
      ] as const
    ) {
      assert.equal(
        TraceContext.print({ traceId: trace, spanId: span, sampled: true }),
        undefined,
        `${trace} ${span}`,
      )
    }
  })
})
