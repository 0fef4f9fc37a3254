import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { ChildConflict, ChildNotFound, StartFailed } from "../../actors/kit/errors.ts"
import * as Supervisor from "../../actors/kit/Supervisor.ts"
import { open, run, settle, World } from "./harness.ts"

const begin = (world: World) =>
  open({
    id: "root",
    strategy: "restForOne",
    intensity: 5,
    onReport: world.onReport,
    children: [world.child("a"), world.child("b")],
  })

describe("Supervisor.startChild", () => {
  it("adds the child at the right end of the group", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { close, supervisor } = yield* begin(world)
      yield* supervisor.startChild(world.child("c"))
      assert.equal(world.took(), "+a +b +c")
      world.end("b")
      yield* settle(supervisor)
      assert.equal(world.took(), "-b -c +b +c")
      yield* close
      assert.equal(world.took(), "-c -b -a")
    })))

  it("refuses an id that is taken, and says by what", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      const running = yield* Effect.flip(supervisor.startChild(world.child("a")))
      assert.ok(running instanceof ChildConflict)
      assert.equal(running.message, 'child "a" of supervisor "root" exists and is running')
      yield* supervisor.terminateChild("a")
      const present = yield* Effect.flip(supervisor.startChild(world.child("a")))
      assert.ok(present instanceof ChildConflict)
      assert.equal(present.status, "terminated")
    })))

  it("forgets a child that fails to start", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      world.failStarts("c", 1)
      const error = yield* Effect.flip(supervisor.startChild(world.child("c")))
      assert.ok(error instanceof StartFailed)
      assert.equal(world.told().at(-1), "root/c start failed: Fail")
      assert.equal((yield* supervisor.countChildren).specs, 2)
      yield* supervisor.startChild(world.child("c"))
    })))

  it("refuses an illegal spec and names the field", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      const error = yield* Effect.flip(supervisor.startChild(world.child("c", { shutdown: -1 })))
      assert.equal(error._tag === "InvalidOptions" && error.field, "child.shutdown")
    })))

  it("restarts a child by its restart kind", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      yield* supervisor.startChild(world.child("p"))
      yield* supervisor.startChild(world.child("t", { restart: "temporary" }))
      world.took()
      world.end("t")
      world.end("p")
      yield* settle(supervisor)
      assert.equal(world.took(), "-t -p +p")
    })))

  it("does nothing if its caller is interrupted before its turn", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      const hold = yield* Deferred.make<void>()
      const first = yield* Effect.forkChild(
        supervisor.startChild({
          id: "slow",
          start: Effect.as(Deferred.await(hold), Effect.never),
        }),
        { startImmediately: true },
      )
      const second = yield* Effect.forkChild(supervisor.startChild(world.child("c")), {
        startImmediately: true,
      })
      yield* Fiber.interrupt(second)
      yield* Deferred.succeed(hold, undefined)
      yield* Fiber.join(first)
      yield* settle(supervisor)
      assert.equal(world.took(), "+a +b")
    })))
})

describe("Supervisor.terminateChild", () => {
  it("stops the child and keeps its spec, without touching the group", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      world.took()
      yield* supervisor.terminateChild("a")
      yield* settle(supervisor)
      assert.equal(world.took(), "-a")
      assert.equal((yield* supervisor.whichChildren)[0]?.status, "terminated")
      yield* supervisor.terminateChild("a")
    })))

  it("forgets a temporary child", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      yield* supervisor.startChild(world.child("t", { restart: "temporary" }))
      yield* supervisor.terminateChild("t")
      const error = yield* Effect.flip(supervisor.restartChild("t"))
      assert.ok(error instanceof ChildNotFound)
      assert.equal(error.message, 'supervisor "root" has no child "t"')
    })))

  it("can be called by the child itself", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      yield* supervisor.startChild({
        id: "c",
        start: Effect.succeed(Effect.andThen(supervisor.terminateChild("c"), Effect.never)),
      })
      yield* world.until((lines) => lines.includes("root/c stopped: Interrupt"))
    })))
})

describe("Supervisor.restartChild", () => {
  it("starts a terminated child, for which no restart is counted", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        intensity: 0,
        onReport: world.onReport,
        children: [world.child("a")],
      })
      for (let i = 0; i < 3; i++) {
        yield* supervisor.terminateChild("a")
        yield* supervisor.restartChild("a")
      }
      assert.equal(world.took(), "+a -a +a -a +a -a +a")
    })))

  it("refuses a running and an unknown child", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      assert.ok((yield* Effect.flip(supervisor.restartChild("a"))) instanceof ChildConflict)
      assert.ok((yield* Effect.flip(supervisor.restartChild("z"))) instanceof ChildNotFound)
    })))

  it("leaves a child that fails to start terminated", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      yield* supervisor.terminateChild("a")
      world.failStarts("a", 1)
      assert.ok((yield* Effect.flip(supervisor.restartChild("a"))) instanceof StartFailed)
      assert.equal((yield* supervisor.whichChildren)[0]?.status, "terminated")
      yield* supervisor.restartChild("a")
    })))
})

describe("Supervisor.deleteChild", () => {
  it("forgets a terminated child, and refuses a running or unknown one", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      assert.ok((yield* Effect.flip(supervisor.deleteChild("a"))) instanceof ChildConflict)
      yield* supervisor.terminateChild("a")
      yield* supervisor.deleteChild("a")
      assert.ok((yield* Effect.flip(supervisor.deleteChild("a"))) instanceof ChildNotFound)
      assert.deepEqual((yield* supervisor.whichChildren).map((child) => child.id), ["b"])
    })))
})

describe("Supervisor.countChildren", () => {
  it("counts specs, running ones, supervisors and workers", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      yield* supervisor.startChild(Supervisor.childSpec({ id: "nested", children: [] }))
      yield* supervisor.terminateChild("a")
      assert.deepEqual(yield* supervisor.countChildren, {
        specs: 3,
        active: 2,
        supervisors: 1,
        workers: 2,
      })
    })))
})

describe("Supervisor.whichChildren", () => {
  it("tells id, status, type and restart kind in start order", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { supervisor } = yield* begin(world)
      yield* supervisor.startChild(
        Supervisor.childSpec({ id: "nested", children: [], restart: "transient" }),
      )
      yield* supervisor.terminateChild("b")
      assert.deepEqual(yield* supervisor.whichChildren, [
        { id: "a", status: "running", type: "worker", restart: "permanent" },
        { id: "b", status: "terminated", type: "worker", restart: "permanent" },
        { id: "nested", status: "running", type: "supervisor", restart: "transient" },
      ])
    })))
})
