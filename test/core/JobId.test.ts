import fc from "fast-check"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as JobId from "../../src/core/JobId.ts"
import { checkName } from "../../src/core/Names.ts"

const partition = fc.integer({ min: 0, max: 31 })
const time = fc.integer({ min: 0, max: 2 ** 47 })

describe("ids of one generator", () => {
  it("are distinct and sorted in the order they were made, also when the clock goes back", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(time, partition), { maxLength: 200 }), (steps) => {
        let now = 0
        const next = JobId.makeGenerator(() => now)
        const ids = steps.map(([at, partition]) => {
          now = at
          return next(partition)
        })
        assert.deepEqual(ids, [...new Set(ids)].sort())
      }),
    )
  })

  it("stay distinct and sorted for 200,000 of one millisecond, over all partitions", () => {
    const next = JobId.makeGenerator(() => 1_700_000_000_000)
    let last = ""
    for (let i = 0; i < 200_000; i++) {
      const id = next(i % 32)
      if (!(id > last)) assert.fail(`${id} after ${last}`)
      last = id
    }
    assert.equal(JobId.timeOf(last), 1_700_000_000_000)
  })

  it("name their partition in the last character, and their time", () => {
    fc.assert(
      fc.property(partition, time, (partition, time) => {
        const id = JobId.makeGenerator(() => time)(partition)
        assert.equal(id.length, 26)
        assert.ok(JobId.isEngineId(id), id)
        assert.equal(JobId.partitionOf(id), partition)
        assert.equal(JobId.timeOf(id), time)
        assert.equal(checkName("id", id), undefined)
      }),
    )
  })
})

describe("ids of different generators", () => {
  it("differ, though made in the same millisecond", () => {
    const ids = Array.from({ length: 10_000 }, () => JobId.makeGenerator(() => 5)(0))
    assert.equal(new Set(ids).size, ids.length)
  })
})

describe("an id that the engine did not make", () => {
  it("is told apart by its form", () => {
    const others = [
      "",
      "order-17",
      "01ARZ3NDEKTSV4RRFFQ69G5FA",
      "01ARZ3NDEKTSV4RRFFQ69G5FAVX",
      "01arz3ndektsv4rrffq69g5fav",
      "81ARZ3NDEKTSV4RRFFQ69G5FAV",
      "01ARZ3NDEKTSV4RRFFQ69G5FAI",
      "01ARZ3NDEKTSV4RRFFQ69G5FAU",
      "01ARZ3NDEKTSV4RRFFQ69G5FA\n",
    ]
    for (const id of others) assert.equal(JobId.isEngineId(id), false, id)
    assert.ok(JobId.isEngineId("01ARZ3NDEKTSV4RRFFQ69G5FAV"))
  })
})
