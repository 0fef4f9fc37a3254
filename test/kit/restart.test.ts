import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Effect from "effect/Effect"
import type * as ChildSpec from "../../actors/kit/ChildSpec.ts"
import * as Supervisor from "../../actors/kit/Supervisor.ts"
import { type End, open, run, settle, World } from "./harness.ts"

const strategies = ["oneForOne", "oneForAll", "restForOne"] as const
const kinds = ["permanent", "transient", "temporary"] as const
const exits: ReadonlyArray<End> = ["normal", "failure", "defect", "interruption"]

const restarts = (kind: ChildSpec.Restart, end: End): boolean =>
  kind === "permanent" || (kind === "transient" && end !== "normal")

/** What happens when the middle one of a, b, c ends and is to be restarted. */
const expected = {
  oneForOne: "-b +b",
  oneForAll: "-b -c -a +a +b +c",
  restForOne: "-b -c +b +c",
}

describe("Supervisor restart", () => {
  for (const strategy of strategies) {
    for (const kind of kinds) {
      for (const end of exits) {
        const again = restarts(kind, end)
        const outcome = again ? `restarts as ${expected[strategy]}` : "restarts nothing"
        it(`${strategy}, ${kind} child, ${end} exit: ${outcome}`, () =>
          run(Effect.gen(function* () {
            const world = new World()
            const supervisor = yield* Supervisor.start({
              id: "root",
              strategy,
              onReport: world.onReport,
              children: [
                world.child("a"),
                world.child("b", { restart: kind }),
                world.child("c"),
              ],
            })
            assert.equal(world.took(), "+a +b +c")
            world.end("b", end)
            yield* settle(supervisor)
            assert.equal(world.took(), again ? expected[strategy] : "-b")
            const statuses = (yield* supervisor.whichChildren).map((c) => `${c.id} ${c.status}`)
            assert.deepEqual(
              statuses,
              again
                ? ["a running", "b running", "c running"]
                : kind === "temporary"
                ? ["a running", "c running"]
                : ["a running", "b terminated", "c running"],
            )
          })))
      }
    }
  }

  it("restForOne leaves the earlier children alone when the last one ends", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        strategy: "restForOne",
        onReport: world.onReport,
        children: [world.child("a"), world.child("b"), world.child("c")],
      })
      world.took()
      world.end("c")
      yield* settle(supervisor)
      assert.equal(world.took(), "-c +c")
    })))

  it("forgets temporary siblings that go down with a group", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        strategy: "oneForAll",
        onReport: world.onReport,
        children: [world.child("a"), world.child("t", { restart: "temporary" }), world.child("c")],
      })
      world.took()
      world.end("a")
      yield* settle(supervisor)
      assert.equal(world.took(), "-a -c -t +a +c")
      assert.deepEqual((yield* supervisor.whichChildren).map((c) => c.id), ["a", "c"])
    })))

  it("starts siblings that had ended or been terminated when their group is restarted", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        strategy: "oneForAll",
        onReport: world.onReport,
        children: [world.child("a"), world.child("b", { restart: "transient" }), world.child("c")],
      })
      world.end("b", "normal")
      yield* supervisor.terminateChild("c")
      world.took()
      world.end("a")
      yield* settle(supervisor)
      assert.equal(world.took(), "-a +a +b +c")
    })))

  it("counts one restart when two children of a group end at the same time", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        strategy: "oneForAll",
        intensity: 1,
        onReport: world.onReport,
        children: [world.child("a"), world.child("b")],
      })
      world.took()
      world.end("a")
      world.end("b")
      yield* settle(supervisor)
      assert.equal(world.took(), "-a -b +a +b")
      assert.deepEqual(world.told().slice(2), [
        "root/a terminated: Fail, restart",
        "root/b terminated: Fail",
        "root/a restarted because of a",
        "root/b restarted because of a",
      ])
    })))

  it("restarts a child that ends as soon as it has started", () =>
    run(Effect.gen(function* () {
      const world = new World()
      let lives = 0
      const supervisor = yield* Supervisor.start({
        id: "root",
        intensity: 3,
        onReport: world.onReport,
        children: [{
          id: "a",
          start: Effect.sync(() => ++lives < 4 ? Effect.fail("early") : Effect.never),
        }],
      })
      yield* settle(supervisor)
      assert.equal(lives, 4)
      assert.equal((yield* supervisor.whichChildren)[0]?.status, "running")
    })))

  it("gives each life of a child a scope of its own", () =>
    run(Effect.gen(function* () {
      const world = new World()
      let opened = 0
      let released = 0
      const { close, supervisor } = yield* open({
        id: "root",
        onReport: world.onReport,
        children: [{
          id: "a",
          start: Effect.as(
            Effect.acquireRelease(
              Effect.sync(() => ++opened),
              () => Effect.sync(() => ++released),
            ),
            Effect.suspend(() => opened === 1 ? Effect.fail("once") : Effect.never),
          ),
        }],
      })
      yield* settle(supervisor)
      assert.deepEqual([opened, released], [2, 1])
      yield* close
      assert.deepEqual([opened, released], [2, 2])
    })))
})
