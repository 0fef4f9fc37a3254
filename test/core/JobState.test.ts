import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as JobState from "../../src/core/JobState.ts"

const states = Object.keys(JobState.next) as ReadonlyArray<JobState.JobState>

/** Rows: from; columns: to, in the order of the rows. `x` is an arrow. */
const table: Readonly<Record<JobState.JobState, string>> = {
  //                aw sc en pr re su fa ca
  awaiting: /*   */ "x  x  x  .  .  x  x  x",
  scheduled: /*  */ ".  x  x  .  .  .  .  x",
  enqueued: /*   */ ".  x  x  x  .  .  x  x",
  processing: /* */ ".  x  x  .  x  x  x  x",
  retrying: /*   */ ".  .  x  .  x  .  .  x",
  succeeded: /*  */ "x  .  x  .  .  .  .  .",
  failed: /*     */ "x  .  x  .  .  .  .  .",
  cancelled: /*  */ "x  .  x  .  .  .  .  .",
}

describe("the table of states", () => {
  for (const from of states) {
    for (const [column, to] of states.entries()) {
      const arrow = table[from].split(/\s+/)[column] === "x"
      it(`${arrow ? "leads" : "does not lead"} from ${from} to ${to}`, () => {
        assert.equal(JobState.can(from, to), arrow)
      })
    }
  }

  it("names only states that it has, each once", () => {
    for (const from of states) {
      const to = JobState.next[from]
      assert.equal(new Set(to).size, to.length)
      for (const state of to) assert.ok(states.includes(state), state)
    }
  })

  it("leaves a final state only to wait anew, for a server or for other jobs", () => {
    for (const state of states) {
      assert.equal(JobState.isFinal(state), ["succeeded", "failed", "cancelled"].includes(state))
      if (JobState.isFinal(state)) {
        assert.deepEqual(JobState.next[state], ["enqueued", "awaiting"])
      }
    }
  })

  it("reaches a final state from every other", () => {
    for (const state of states.filter((state) => !JobState.isFinal(state))) {
      assert.ok(JobState.can(state, "cancelled"), state)
    }
  })
})

describe("an operation", () => {
  const results: Readonly<Record<JobState.OperationName, ReadonlyArray<JobState.JobState>>> = {
    cancel: ["cancelled"],
    requeue: ["enqueued"],
    runNow: ["enqueued"],
    reschedule: ["scheduled", "retrying"],
    move: ["awaiting", "scheduled", "enqueued", "retrying"],
    remove: [],
  }

  it("is accepted only where the table has an arrow for it", () => {
    for (const [name, to] of Object.entries(results)) {
      const operation = name as JobState.OperationName
      for (const from of JobState.accepts[operation]) {
        if (operation === "remove") assert.ok(JobState.isFinal(from))
        else assert.ok(to.some((state) => JobState.can(from, state)), `${name} ${from}`)
      }
    }
  })

  it("ends only what hasn't ended, and begins anew only what has", () => {
    for (const state of states) {
      assert.equal(JobState.accepts.cancel.includes(state), !JobState.isFinal(state), state)
      assert.equal(JobState.accepts.requeue.includes(state), JobState.isFinal(state), state)
    }
  })
})

describe("a state on the wire", () => {
  const wire = {
    ready: "enqueued",
    later: "scheduled",
    retry: "retrying",
    await: "awaiting",
    part: "processing",
    succeeded: "succeeded",
    failed: "failed",
    cancelled: "cancelled",
  } as const

  it("stands for one of the job", () => {
    for (const [token, state] of Object.entries(wire)) {
      assert.ok(JobState.isWireState(token))
      assert.equal(JobState.fromWire(token), state)
    }
  })

  it("is no other word, not even one that objects inherit", () => {
    for (const token of ["", "enqueued", "Ready", "toString", "constructor", "__proto__", "*"]) {
      assert.equal(JobState.isWireState(token), false, token)
    }
  })
})
