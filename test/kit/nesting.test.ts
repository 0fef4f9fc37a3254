import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Effect from "effect/Effect"
import { IntensityExceeded, StartFailed } from "../../actors/kit/errors.ts"
import * as Supervisor from "../../actors/kit/Supervisor.ts"
import { open, run, settle, World } from "./harness.ts"

/** root → mid → low → leaf, with siblings at each level. */
const tree = (world: World) => {
  const low = Supervisor.childSpec({
    id: "low",
    intensity: 0,
    children: [world.child("leaf"), world.child("l2")],
  })
  const mid = Supervisor.childSpec({
    id: "mid",
    intensity: 0,
    children: [world.child("m1"), low],
  })
  return open({
    id: "root",
    intensity: 1,
    onReport: world.onReport,
    children: [world.child("r1"), mid, world.child("r3")],
  })
}

describe("Supervisor under a supervisor", () => {
  it("starts and stops with its children in its place of the order", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { close } = yield* tree(world)
      assert.equal(world.took(), "+r1 +m1 +leaf +l2 +r3")
      yield* close
      assert.equal(world.took(), "-r3 -l2 -leaf -m1 -r1")
      assert.deepEqual(world.told().slice(-10), [
        "root/r3 stopped: Interrupt",
        "root/mid/low/l2 stopped: Interrupt",
        "root/mid/low/leaf stopped: Interrupt",
        "root/mid/low ended: shutdown",
        "root/mid/low stopped: Interrupt",
        "root/mid/m1 stopped: Interrupt",
        "root/mid ended: shutdown",
        "root/mid stopped: Interrupt",
        "root/r1 stopped: Interrupt",
        "root ended: shutdown",
      ])
    })))

  it("lets its parent decide when its budget is spent, and the parent its own, up two levels", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* tree(world)
      world.took()
      const before = world.reports.length
      world.end("leaf")
      yield* world.until((lines) => lines.includes("root/mid restarted because of mid"))
      assert.equal(world.took(), "-leaf -l2 -m1 +m1 +leaf +l2")
      assert.deepEqual(world.told().slice(before), [
        "root/mid/low/leaf terminated: Fail, restart",
        "root/mid/low/leaf exceeded 0 in 5000",
        "root/mid/low/l2 stopped: Interrupt",
        "root/mid/low ended: intensityExceeded",
        "root/mid/low terminated: Fail, restart",
        "root/mid/low exceeded 0 in 5000",
        "root/mid/m1 stopped: Interrupt",
        "root/mid ended: intensityExceeded",
        "root/mid terminated: Fail, restart",
        "root/mid/m1 started",
        "root/mid/low/leaf started",
        "root/mid/low/l2 started",
        "root/mid/low started",
        "root/mid restarted because of mid",
      ])
      world.end("leaf")
      const error = yield* Effect.flip(supervisor.awaitExit)
      assert.equal(error.child, "mid")
      assert.ok(error.cause instanceof IntensityExceeded)
      assert.equal(error.cause.child, "low")
      assert.ok(error.cause.cause instanceof IntensityExceeded)
      assert.equal(error.cause.cause.supervisor, "root/mid/low")
      assert.equal(world.took(), "-leaf -l2 -m1 -r3 -r1")
    })))

  for (const restart of ["transient", "temporary"] as const) {
    it(
      `with a spent budget ends abnormally, so a ${restart} one is ${
        restart === "transient" ? "restarted" : "forgotten"
      }`,
      () =>
        run(Effect.gen(function* () {
          const world = new World()
          const supervisor = yield* Supervisor.start({
            id: "root",
            onReport: world.onReport,
            children: [
              Supervisor.childSpec({
                id: "nested",
                restart,
                intensity: 0,
                children: [world.child("a")],
              }),
            ],
          })
          world.end("a")
          yield* world.until((lines) => lines.some((line) => line.startsWith("root/nested term")))
          yield* settle(supervisor)
          assert.equal(world.took(), restart === "transient" ? "+a -a +a" : "+a -a")
          assert.equal(
            (yield* supervisor.countChildren).supervisors,
            restart === "transient" ? 1 : 0,
          )
        })),
    )
  }

  it("fails the start of its parent when one of its children fails to start", () =>
    run(Effect.gen(function* () {
      const world = new World()
      world.failStarts("leaf", 1)
      const error = yield* Effect.flip(tree(world))
      assert.ok(error instanceof StartFailed)
      assert.equal(error.child, "mid")
      assert.equal(
        error.message,
        'child "mid" of supervisor "root" failed to start: ' +
          'child "low" of supervisor "root/mid" failed to start: ' +
          'child "leaf" of supervisor "root/mid/low" failed to start: leaf can\'t start',
      )
      assert.equal(world.took(), "+r1 +m1 -m1 -r1")
    })))

  it("can be reached by whoever writes its spec by hand, and takes dynamic children", () =>
    run(Effect.gen(function* () {
      const world = new World()
      let nested: Supervisor.Supervisor | undefined
      const { close } = yield* open({
        id: "root",
        onReport: world.onReport,
        children: [{
          id: "queues",
          type: "supervisor",
          start: Effect.map(Supervisor.start({ id: "queues", children: [] }), (supervisor) => {
            nested = supervisor
            return supervisor.awaitExit
          }),
        }],
      })
      assert.ok(nested)
      assert.equal(nested.path, "root/queues")
      yield* nested.startChild(world.child("mail"))
      assert.equal(world.told()[1], "root/queues/mail started")
      yield* close
      assert.equal(world.took(), "+mail -mail")
    })))

  it("started by a child of another tree belongs to the supervisor it was given to", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* open({ id: "root", onReport: world.onReport, children: [] })
      yield* Supervisor.start({
        id: "other",
        onReport: () => {},
        children: [{
          id: "starter",
          start: Effect.as(
            supervisor.startChild(
              Supervisor.childSpec({ id: "nested", children: [world.child("a")] }),
            ),
            Effect.never,
          ),
        }],
      })
      assert.deepEqual(world.told(), ["root/nested/a started", "root/nested started"])
    })))
})
