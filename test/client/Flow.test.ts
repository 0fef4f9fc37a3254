import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { Flow, Job } from "../../mod.ts"
import { arrange, definitions, success } from "../../src/client/FlowPlan.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"

const At = Job.make("at", { success: Schema.Date })
const Each = Job.make("each", { payload: Schema.String, success: Schema.Finite })
const Names = Job.make("names", { success: Schema.Array(Schema.String) })

const flow = Flow.all({
  at: Flow.job(At),
  list: Flow.all([Flow.job(Names).pipe(Flow.forEach(Each)), Flow.job(At)]),
})

const read = (value: unknown) =>
  Effect.runSync(Effect.result(success(flow.plan).decode(MessagePack.encode(value))))

describe("the result of a flow", () => {
  const date = "2030-01-02T03:04:05.000Z"

  it("is read with the schema of the job that each part of it is of", () => {
    const { _tag, ...rest } = read({ at: date, list: [[1, 2], date] })
    assert.equal(_tag, "Success")
    const at = new Date(date)
    assert.deepEqual(Object.values(rest)[0], { at, list: [[1, 2], at] })
  })

  it("says where it doesn't match", () => {
    for (
      const [value, path] of [
        [{ at: date, list: [[1, "2"], date] }, ".list[0][1]"],
        [{ at: date, list: [[], 5] }, ".list[1]"],
        [{ at: date, list: [[]] }, ".list"],
        [{ at: date, list: [5, date] }, ".list[0]"],
        [5, ""],
      ] as const
    ) {
      const result = read(value)
      assert.ok(result._tag === "Failure", JSON.stringify(value))
      assert.equal(result.failure.path, path)
    }
  })

  it("is arranged as its parts are, one of them in several places too", () => {
    assert.deepEqual(arrange({ a: [1, 0], b: { c: 1 } }, ["x", "y"]), {
      a: ["y", "x"],
      b: { c: "y" },
    })
    assert.deepEqual(arrange([], []), [])
  })

  it("may be the error of any of its jobs", () => {
    assert.deepEqual([...definitions(flow.plan).keys()].sort(), ["at", "each", "names"])
  })
})
