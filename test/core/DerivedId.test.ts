import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { derivableIds, derive } from "../../src/core/DerivedId.ts"
import { isEngineId, makeGenerator, partitionOf, timeOf } from "../../src/core/JobId.ts"

describe("a derived id", () => {
  const nextId = makeGenerator(() => 1_800_000_000_000)

  it("is the same each time, and an engine's id of the same time and partition", () => {
    assert.equal(derive("01J9ZQ6Y3NM2D4V8T7K5R0B1C3", 7), derive("01J9ZQ6Y3NM2D4V8T7K5R0B1C3", 7))
    for (const partition of [0, 3, 31]) {
      const id = nextId(partition)
      const derived = derive(id, derivableIds - 1)
      assert.ok(isEngineId(derived), derived)
      assert.equal(partitionOf(derived), partition)
      assert.equal(timeOf(derived), timeOf(id))
    }
  })

  it("is part of what is stored, so it never changes", () => {
    assert.equal(derive("01J9ZQ6Y3NM2D4V8T7K5R0B1C3", 0), "01J9ZQ6Y3NMJZTH465PYY00003")
    assert.equal(derive("01J9ZQ6Y3NM2D4V8T7K5R0B1C3", 9_999), "01J9ZQ6Y3NMJZTH465PYY09RF3")
  })

  it("differs from all others, of neighbours in one millisecond too", () => {
    const made = new Set<string>()
    for (let i = 0; i < 200; i++) {
      const id = nextId(0)
      made.add(id)
      for (let index = 0; index < 200; index++) made.add(derive(id, index))
      made.add(derive(id, derivableIds - 1))
    }
    assert.equal(made.size, 200 * 202)
  })

  it("sorts by its number", () => {
    const id = nextId(0)
    const derived = Array.from({ length: 2_000 }, (_, index) => derive(id, index))
    assert.deepEqual([...derived].sort(), derived)
  })
})
