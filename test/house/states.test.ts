import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as JobState from "../../src/core/JobState.ts"
import { text } from "./tree.ts"

const page = text("docs/states.md")

const arrows = Object.entries(JobState.next)
  .flatMap(([from, states]) => states.map((to) => `${from} → ${to}`)).sort()

const found = (pattern: RegExp): ReadonlyArray<string> =>
  [...page.matchAll(pattern)].map(([, from, to]) => `${from} → ${to}`).sort()

describe("the page on states", () => {
  it("draws every arrow of the table once, and no other", () => {
    assert.deepEqual(found(/^ {4}(\w+) --> (\w+): /gm), arrows)
  })

  it("says of every arrow who may take it, and of no other", () => {
    assert.deepEqual(found(/^\| `(\w+)` → `(\w+)` +\| [a-zN]/gm), arrows)
  })

  it("names every state on the wire with the job's state", () => {
    const rows = [...page.matchAll(/^\| `(\w+)` +\| `(\w+)` +\|/gm)]
    for (const [, token = "", state] of rows) {
      assert.ok(JobState.isWireState(token), token)
      assert.equal(JobState.fromWire(token), state)
    }
    assert.equal(rows.length, 8)
  })
})
