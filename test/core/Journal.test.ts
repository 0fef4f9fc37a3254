import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Journal from "../../src/core/Journal.ts"

const line = (
  text: string,
  annotations: Readonly<Record<string, unknown>> = {},
): Journal.Line | undefined =>
  Journal.decodeLine(
    Journal.encodeLine({ time: 5, level: "Warn", text, attempt: 2, annotations }),
  )

describe("A line", () => {
  it("comes back as it was", () => {
    assert.deepEqual(line("héllo 🚀", { user: "ada", n: 7, deep: { a: [1] } }), {
      time: 5,
      level: "Warn",
      text: "héllo 🚀",
      attempt: 2,
      annotations: { user: "ada", n: "7", deep: '{"a":[1]}' },
    })
  })

  it("is cut where it is too long, and never through a character", () => {
    const text = line("x".repeat(1_998) + "🚀".repeat(10))?.text ?? ""
    assert.equal(text, `${"x".repeat(1_998)}\ufffd…`)
    const many = Object.fromEntries(
      Array.from({ length: 50 }, (_, i) => [`k${i}`, "v".repeat(999)]),
    )
    const annotations = Object.values(line("", many)?.annotations ?? {})
    assert.deepEqual([annotations.length, annotations[0]?.length], [16, 200])
  })

  it("takes annotations that can't be shown or stored", () => {
    const circle: Record<string, unknown> = {}
    circle.self = circle
    const hostile = JSON.parse('{ "__proto__": 1 }')
    assert.deepEqual(line("a", { ...hostile, circle, none: undefined })?.annotations, {
      circle: "?",
      none: "undefined",
    })
  })

  it("isn't read from other bytes", () => {
    for (const bytes of [[], [0x90], [0xc1], [0x93, 1, 2, 3]]) {
      assert.equal(Journal.decodeLine(Uint8Array.from(bytes)), undefined)
    }
  })
})

describe("A progress", () => {
  const of = (input: unknown) => {
    const given = Journal.progressOf(input as Journal.ProgressInput, 5, 1)
    const { attempt, time, ...rest } = Journal.decodeProgress(Journal.encodeProgress(given)) ??
      given
    assert.deepEqual([time, attempt], [5, 1])
    return Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined))
  }

  it("is a fraction, or parts of a whole", () => {
    assert.deepEqual(of(0.25), { fraction: 0.25 })
    assert.deepEqual(of({ fraction: 1, note: "done" }), { fraction: 1, note: "done" })
    assert.deepEqual(of({ done: 3, total: 12, note: "c" }), {
      fraction: 0.25,
      done: 3,
      total: 12,
      note: "c",
    })
    assert.deepEqual(of({ done: 3 }), { done: 3 })
  })

  it("is brought into its bounds, and unknown where it is no number", () => {
    assert.deepEqual([-1, 7, Infinity, NaN].map(of), [
      { fraction: 0 },
      { fraction: 1 },
      { fraction: 1 },
      {},
    ])
    assert.deepEqual(of({ done: 0, total: 0 }), { done: 0, total: 0 })
    assert.deepEqual(of({ done: 9, total: 3 }), { fraction: 1, done: 9, total: 3 })
    assert.deepEqual(of({ fraction: 0.5, note: "n".repeat(600) }).note, `${"n".repeat(499)}…`)
    for (const nonsense of [undefined, null, "half", {}]) assert.deepEqual(of(nonsense), {})
  })
})
