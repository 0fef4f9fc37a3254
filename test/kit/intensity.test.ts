import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { ChildConflict, IntensityExceeded } from "../../actors/kit/errors.ts"
import * as Supervisor from "../../actors/kit/Supervisor.ts"
import { run, settle, World } from "./harness.ts"

describe("Supervisor intensity", () => {
  it("allows exactly as many restarts as it says, and not one more", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        intensity: 3,
        onReport: world.onReport,
        children: [world.child("a"), world.child("b"), world.child("c")],
      })
      for (let i = 0; i < 3; i++) {
        world.end("b")
        yield* settle(supervisor)
      }
      assert.equal(world.took(), "+a +b +c -b +b -b +b -b +b")
      world.end("b", "defect")
      const error = yield* Effect.flip(supervisor.awaitExit)
      assert.equal(world.took(), "-b -c -a")
      assert.ok(error instanceof IntensityExceeded)
      assert.deepEqual(
        [error.supervisor, error.child, error.intensity, error.period],
        ["root", "b", 3, 5_000],
      )
      assert.equal(
        error.message,
        'supervisor "root" gave up: child "b" needed more than 3 restarts in 5000 ms: died',
      )
      assert.deepEqual(world.told().slice(-5), [
        "root/b terminated: Die, restart",
        "root/b exceeded 3 in 5000",
        "root/c stopped: Interrupt",
        "root/a stopped: Interrupt",
        "root ended: intensityExceeded",
      ])
    })))

  it("is one restart in 5 seconds by default", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        onReport: world.onReport,
        children: [world.child("a")],
      })
      world.end("a")
      yield* settle(supervisor)
      yield* TestClock.adjust("5001 millis")
      world.end("a")
      yield* settle(supervisor)
      assert.equal(world.took(), "+a -a +a -a +a")
      world.end("a")
      yield* Effect.flip(supervisor.awaitExit)
    })))

  it("of 0 gives up at the first restart", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        intensity: 0,
        onReport: world.onReport,
        children: [world.child("a")],
      })
      world.end("a", "normal")
      const error = yield* Effect.flip(supervisor.awaitExit)
      assert.equal(error.cause, undefined)
      assert.equal(world.took(), "+a -a")
    })))

  it("slides: a restart counts until the period has passed, its last millisecond included", () =>
    run(Effect.gen(function* () {
      for (const [third, allowed] of [[10_000, false], [10_001, true]] as const) {
        const world = new World()
        const supervisor = yield* Supervisor.start({
          id: "root",
          intensity: 2,
          period: "10 seconds",
          onReport: world.onReport,
          children: [world.child("a")],
        })
        world.end("a")
        yield* settle(supervisor)
        yield* TestClock.adjust(6_000)
        world.end("a")
        yield* settle(supervisor)
        yield* TestClock.adjust(third - 6_000)
        world.end("a")
        yield* settle(supervisor)
        assert.equal(world.told().includes("root/a exceeded 2 in 10000"), !allowed)
      }
    })))

  it("counts the restarts of all children together", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        intensity: 1,
        onReport: world.onReport,
        children: [world.child("a"), world.child("b")],
      })
      world.end("a")
      yield* settle(supervisor)
      world.end("b")
      assert.equal((yield* Effect.flip(supervisor.awaitExit)).child, "b")
    })))

  it("doesn't count ends that lead to no restart", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        intensity: 0,
        onReport: world.onReport,
        children: [
          world.child("a", { restart: "temporary" }),
          world.child("b", { restart: "transient" }),
        ],
      })
      world.end("a")
      world.end("b", "normal")
      yield* settle(supervisor)
      assert.equal((yield* supervisor.countChildren).specs, 1)
    })))
})

describe("Supervisor restart that fails", () => {
  it("is tried again, each try at the cost of one restart", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        intensity: 3,
        onReport: world.onReport,
        children: [world.child("a")],
      })
      world.failStarts("a", 2)
      world.end("a")
      yield* settle(supervisor)
      assert.deepEqual(world.told().slice(1), [
        "root/a terminated: Fail, restart",
        "root/a restart failed: Fail",
        "root/a restart failed: Fail",
        "root/a restarted because of a",
      ])
    })))

  it("gives up when the tries have spent the budget", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        intensity: 3,
        onReport: world.onReport,
        children: [world.child("a")],
      })
      world.failStarts("a", 4)
      world.end("a")
      const error = yield* Effect.flip(supervisor.awaitExit)
      assert.match(error.message, /a can't start$/)
      assert.equal(world.told().filter((line) => line.includes("restart failed")).length, 3)
    })))

  it("under oneForAll stops those that had started and begins again with the first", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        strategy: "oneForAll",
        intensity: 2,
        onReport: world.onReport,
        children: [world.child("a"), world.child("b"), world.child("c")],
      })
      world.took()
      world.failStarts("b", 1)
      world.end("c")
      yield* settle(supervisor)
      assert.equal(world.took(), "-c -b -a +a -a +a +b +c")
      assert.equal(world.told().at(-1), "root/c restarted because of b")
    })))

  it("under restForOne begins again with the one that failed", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        strategy: "restForOne",
        intensity: 2,
        onReport: world.onReport,
        children: [world.child("a"), world.child("b"), world.child("c"), world.child("d")],
      })
      world.took()
      world.failStarts("c", 1)
      world.end("b")
      yield* settle(supervisor)
      assert.equal(world.took(), "-b -d -c +b +c +d")
    })))

  it("gives requests their turn between the tries", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        intensity: 1_000_000,
        onReport: world.onReport,
        children: [world.child("a")],
      })
      world.failStarts("a", Infinity)
      world.end("a")
      yield* world.until((lines) => lines.length > 10)
      yield* supervisor.terminateChild("a")
      const tries = world.reports.length
      yield* settle(supervisor)
      assert.equal(world.reports.length, tries)
      assert.equal((yield* supervisor.whichChildren)[0]?.status, "terminated")
    })))
})

describe("Supervisor back-off", () => {
  it("grows with the restarts in the period up to its maximum, and falls with them", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        intensity: 10,
        period: "1 minute",
        backoff: { initial: "1 second", max: "5 seconds" },
        onReport: world.onReport,
        children: [world.child("a")],
      })
      for (const seconds of [1, 2, 4, 5, 5]) {
        world.took()
        world.end("a")
        yield* settle(supervisor)
        yield* TestClock.adjust(seconds * 1_000 - 1)
        yield* settle(supervisor)
        assert.equal(world.took(), "-a", `before ${seconds} s`)
        yield* TestClock.adjust(1)
        yield* settle(supervisor)
        assert.equal(world.took(), "+a", `after ${seconds} s`)
      }
      yield* TestClock.adjust("2 minutes")
      world.end("a")
      yield* settle(supervisor)
      yield* TestClock.adjust("1 second")
      yield* settle(supervisor)
      assert.equal(world.took(), "-a +a")
    })))

  it("stops the siblings before the delay, not after it", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        strategy: "restForOne",
        backoff: { initial: "10 seconds", max: "10 seconds" },
        onReport: world.onReport,
        children: [world.child("a"), world.child("b"), world.child("c")],
      })
      world.took()
      world.end("b")
      yield* settle(supervisor)
      assert.equal(world.took(), "-b -c")
      const statuses = (yield* supervisor.whichChildren).map((child) => child.status)
      assert.deepEqual(statuses, ["running", "restarting", "terminated"])
      yield* TestClock.adjust("10 seconds")
      yield* settle(supervisor)
      assert.equal(world.took(), "+b +c")
    })))

  it("of an earlier sibling replaces that of a later one", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        strategy: "restForOne",
        intensity: 2,
        backoff: { initial: "10 seconds", factor: 1, max: "10 seconds" },
        onReport: world.onReport,
        children: [world.child("a"), world.child("b")],
      })
      world.took()
      world.end("b")
      yield* settle(supervisor)
      yield* TestClock.adjust("5 seconds")
      world.end("a")
      yield* settle(supervisor)
      yield* TestClock.adjust("5 seconds")
      yield* settle(supervisor)
      assert.equal(world.took(), "-b -a")
      yield* TestClock.adjust("5 seconds")
      yield* settle(supervisor)
      assert.equal(world.took(), "+a +b")
    })))

  it("leaves the supervisor free for requests, which see the child restarting", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        backoff: { initial: "10 seconds", max: "10 seconds" },
        onReport: world.onReport,
        children: [world.child("a")],
      })
      world.end("a")
      yield* settle(supervisor)
      for (const request of [supervisor.restartChild("a"), supervisor.deleteChild("a")]) {
        const error = yield* Effect.flip(request)
        assert.ok(error instanceof ChildConflict)
        assert.equal(error.status, "restarting")
      }
      yield* supervisor.terminateChild("a")
      yield* TestClock.adjust("1 minute")
      yield* settle(supervisor)
      assert.equal(world.took(), "+a -a")
      yield* supervisor.restartChild("a")
      assert.equal(world.took(), "+a")
    })))

  it("doesn't put off giving up", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const supervisor = yield* Supervisor.start({
        id: "root",
        intensity: 0,
        backoff: { initial: "10 seconds", max: "10 seconds" },
        onReport: world.onReport,
        children: [world.child("a")],
      })
      const exit = yield* Effect.forkChild(Effect.flip(supervisor.awaitExit))
      world.end("a")
      assert.ok((yield* Fiber.join(exit)) instanceof IntensityExceeded)
    })))
})
