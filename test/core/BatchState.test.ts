import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as BatchState from "../../src/core/BatchState.ts"

const phases = ["building", "releasing", "open", "adding", "abandoned"] as const

const of = (change: Partial<BatchState.BatchState>): BatchState.BatchState => ({
  phase: "open",
  total: 3,
  generation: 1,
  heldUntil: 0,
  holders: 0,
  ...change,
})

describe("the state of a batch", () => {
  it("comes back from the wire as it was", () => {
    for (const phase of phases) {
      const batch = of({ phase, total: 100_000, generation: 7, heldUntil: 1.75e12, holders: 2 })
      assert.deepEqual(BatchState.fromWire(BatchState.toWire(batch)), batch)
    }
  })

  it("is nothing when the wire says something else", () => {
    for (const value of [undefined, 5, [], [9, 0, 0, 0], ["open"], [-1], [2, Number.NaN], {}]) {
      assert.equal(BatchState.fromWire(value), undefined, String(value))
    }
    assert.deepEqual(BatchState.fromWire([2, 3, 1, 0]), of({}))
  })

  it("is held until the last of several lets go", () => {
    const two = BatchState.held(BatchState.held(of({}), 10), 5)
    assert.deepEqual(two, of({ holders: 2, heldUntil: 10 }))
    const one = BatchState.released(two)
    assert.deepEqual(one, of({ holders: 1, heldUntil: 10 }))
    assert.deepEqual(BatchState.released(one), of({}))
    assert.deepEqual(BatchState.released(of({})), of({}))
  })

  it("keeps who adds to it when holders let go, and holders when who adds is done", () => {
    const both = BatchState.held(of({ phase: "adding", heldUntil: 20 }), 10)
    assert.deepEqual(BatchState.released(both), of({ phase: "adding", heldUntil: 20 }))
    assert.deepEqual(
      BatchState.inPhase(both, "releasing"),
      of({ phase: "releasing", heldUntil: 20, holders: 1 }),
    )
    assert.deepEqual(BatchState.inPhase(of({ phase: "adding", heldUntil: 9 }), "open"), of({}))
  })

  it("is abandoned when its builder is given up, and nobody holds it then", () => {
    const given = (phase: BatchState.Phase) =>
      BatchState.givenUp(of({ phase, heldUntil: 9, holders: 2 }))
    assert.deepEqual(
      phases.map((phase) => given(phase).phase),
      ["abandoned", "releasing", "open", "adding", "abandoned"],
    )
    for (const phase of phases) assert.deepEqual(given(phase), of({ phase: given(phase).phase }))
  })

  it("has another generation for everybody who adds to it", () => {
    const first = BatchState.adopted(of({ holders: 1, heldUntil: 30 }), 20)
    assert.deepEqual(first, of({ phase: "adding", generation: 2, heldUntil: 30, holders: 1 }))
    assert.equal(BatchState.adopted(first, 40).generation, 3)
  })

  it("is secret before its commit, and built on while somebody stores members", () => {
    const secret = phases.filter((phase) => BatchState.isSecret(of({ phase })))
    const builtOn = phases.filter((phase) => BatchState.isBuiltOn(of({ phase })))
    assert.deepEqual([secret, builtOn], [["building", "abandoned"], ["building", "adding"]])
  })
})
