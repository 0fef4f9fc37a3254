import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { FinalState } from "../../src/core/JobState.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Waits from "../../src/core/Waits.ts"

/** What waits for parents `a`, `b`… that ended so; `undefined` for one that hasn't. */
const waits = (
  need: "all" | "any",
  on: ReadonlyArray<FinalState>,
  ...ends: ReadonlyArray<FinalState | undefined>
): Waits.Waits => ({
  staged: false,
  need,
  on,
  delay: 0,
  parents: ends.map((state, index) => {
    const id = String.fromCharCode(97 + index)
    return state === undefined ? { id } : { id, outcome: { state } }
  }),
})

const tag = (value: Waits.Waits) => Waits.decide(value)._tag
const [good, bad] = ["succeeded", "failed"] as const

describe("What waits for all of its parents", () => {
  const all = (...ends: ReadonlyArray<FinalState | undefined>) => tag(waits("all", [good], ...ends))

  it("is released when the last has ended as it wants", () => {
    assert.deepEqual([all(undefined), all(good, undefined), all(good), all(good, good)], [
      "Wait",
      "Wait",
      "Release",
      "Release",
    ])
  })

  it("is cancelled by the first that ends otherwise", () => {
    assert.deepEqual([all(bad, undefined), all(good, bad), all("cancelled")], [
      "Cancel",
      "Cancel",
      "Cancel",
    ])
    const decision = Waits.decide(waits("all", [good], good, bad))
    assert(decision._tag === "Cancel")
    assert.match(decision.reason, /^job b, .* ended as failed; .* on succeeded$/)
  })
})

describe("What waits for any of its parents", () => {
  const any = (...ends: ReadonlyArray<FinalState | undefined>) => tag(waits("any", [bad], ...ends))

  it("is released by the first that ends as it wants", () => {
    assert.deepEqual([any(undefined, undefined), any(good, undefined), any(bad, undefined)], [
      "Wait",
      "Wait",
      "Release",
    ])
    assert.equal(any(good, bad), "Release")
  })

  it("is cancelled when the last has ended otherwise", () => {
    assert.deepEqual([any(good), any(good, "cancelled")], ["Cancel", "Cancel"])
  })
})

describe("What waits", () => {
  it("takes several endings", () => {
    assert.equal(tag(waits("all", [bad, "cancelled"], bad, "cancelled")), "Release")
    assert.equal(tag(waits("all", [bad, "cancelled"], bad, good)), "Cancel")
  })

  it("isn't decided while it is staged", () => {
    for (const end of [good, bad] as const) {
      assert.equal(tag({ ...waits("all", [good], end), staged: true }), "Wait")
    }
  })

  it("keeps the first outcome of a parent", () => {
    const struck = Waits.strike(waits("all", [good], good, undefined), "a", { state: bad })
    assert.equal(struck.parents[0]?.outcome?.state, good)
    assert.deepEqual([Waits.waitsFor(struck, "a"), Waits.waitsFor(struck, "b")], [false, true])
    assert.deepEqual(Waits.open(struck), ["b"])
    assert.deepEqual(Waits.strike(struck, "x", { state: bad }), struck)
  })
})

describe("The wire form", () => {
  it("says the same again", () => {
    for (const need of ["all", "any"] as const) {
      for (const on of [[good], [bad, "cancelled"], [good, bad, "cancelled"]] as const) {
        const value: Waits.Waits = {
          staged: need === "any",
          need,
          on,
          delay: 1_500,
          parents: [
            { id: "a" },
            { id: "b", outcome: { state: "cancelled", result: undefined } },
            { id: "c", outcome: { state: good, result: Uint8Array.from([1, 2]) } },
          ],
        }
        const bytes = MessagePack.encode(Waits.toWire(value))
        assert.deepEqual(Waits.fromWire(MessagePack.decode(bytes)), value)
      }
    }
  })

  it("isn't read from anything else", () => {
    const right = [false, false, 1, 0, [["a"]]]
    assert(Waits.fromWire(right) !== undefined)
    const hostile: Array<unknown> = [undefined, null, 5, "x", {}, []]
    const wrong: ReadonlyArray<ReadonlyArray<unknown>> = [
      [undefined, 1, "x"],
      [undefined, 1, "x"],
      [-1, 8, 1.5, NaN, "1", undefined],
      [-1, Infinity, NaN, "0", 1e300],
      ["a", {}, [5], [[]], [[5]], [["a.b"]], [[">"]], [[""]], [["a", 3]], [["a", -1]], [[
        "a",
        "0",
      ]]],
    ]
    for (const [at, values] of wrong.entries()) {
      for (const value of values) hostile.push(right.with(at, value as never))
    }
    for (const value of hostile) {
      assert.equal(Waits.fromWire(value), undefined, JSON.stringify(value))
    }
    const parents = Waits.fromWire(right.with(4, [["a", 0, "not bytes"]] as never))?.parents
    assert.deepEqual(parents, [{ id: "a", outcome: { state: good, result: undefined } }])
  })
})
