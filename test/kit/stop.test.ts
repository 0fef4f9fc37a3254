import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import type { Shutdown } from "../../actors/kit/ChildSpec.ts"
import { SupervisorStopped } from "../../actors/kit/errors.ts"
import { open, run, settle, World } from "./harness.ts"

/** A life that takes no notice of interruption. */
const stubborn = (millis: number): Effect.Effect<void> =>
  Effect.uninterruptible(Effect.sleep(millis))

describe("Supervisor stop", () => {
  it("stops right to left, each child after the one before it has ended", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const slow = {
        id: "b",
        start: Effect.as(
          Effect.addFinalizer(() =>
            Effect.andThen(Effect.sleep("1 second"), Effect.sync(() => world.log.push("-b")))
          ),
          Effect.never,
        ),
      }
      const { close, supervisor } = yield* open({
        id: "root",
        onReport: world.onReport,
        children: [world.child("a"), slow, world.child("c")],
      })
      world.took()
      const closing = yield* Effect.forkChild(close)
      yield* TestClock.adjust("999 millis")
      assert.equal(world.took(), "-c")
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      assert.equal(world.took(), "-b -a")
      yield* supervisor.awaitExit
      assert.deepEqual(world.told().slice(3), [
        "root/c stopped: Interrupt",
        "root/b stopped: Interrupt",
        "root/a stopped: Interrupt",
        "root ended: shutdown",
      ])
    })))

  const waits: ReadonlyArray<readonly [string, Shutdown | undefined, number]> = [
    ["the time its spec gives it", "2 seconds", 2_000],
    ["5 seconds by default", undefined, 5_000],
    ["no time at all for brutalKill", "brutalKill", 0],
    ["no time at all for 0", 0, 0],
  ]
  for (const [what, shutdown, waited] of waits) {
    it(`abandons a child that ignores interruption after ${what}`, () =>
      run(Effect.gen(function* () {
        const world = new World()
        const { close } = yield* open({
          id: "root",
          onReport: world.onReport,
          children: [
            world.child("a"),
            {
              id: "b",
              start: Effect.succeed(stubborn(10_000)),
              ...(shutdown === undefined ? {} : { shutdown }),
            },
          ],
        })
        const closing = yield* Effect.forkChild(close)
        if (waited > 0) {
          yield* TestClock.adjust(waited - 1)
          assert.equal(closing.pollUnsafe(), undefined)
          assert.equal(world.took(), "+a")
          yield* TestClock.adjust(1)
        }
        yield* Fiber.join(closing)
        assert.deepEqual(world.told().slice(2), [
          `root/b abandoned after ${waited}`,
          "root/a stopped: Interrupt",
          "root ended: shutdown",
        ])
        yield* TestClock.adjust("10 seconds")
        assert.equal(world.told().at(-1), "root/b ended late: Interrupt")
      })))
  }

  for (const spec of [{ shutdown: "infinity" }, { type: "supervisor" }] as const) {
    it(`waits without limit for a child with ${JSON.stringify(spec)}`, () =>
      run(Effect.gen(function* () {
        const world = new World()
        const { close } = yield* open({
          id: "root",
          onReport: world.onReport,
          children: [{ id: "a", start: Effect.succeed(stubborn(3_600_000)), ...spec }],
        })
        const closing = yield* Effect.forkChild(close)
        yield* TestClock.adjust("59 minutes")
        assert.equal(closing.pollUnsafe(), undefined)
        yield* TestClock.adjust("1 minute")
        yield* Fiber.join(closing)
        assert.deepEqual(world.told().slice(1), [
          "root/a stopped: Interrupt",
          "root ended: shutdown",
        ])
      })))
  }

  it("ends a child with brutalKill that heeds interruption", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { close } = yield* open({
        id: "root",
        onReport: world.onReport,
        children: [world.child("a", { shutdown: "brutalKill" })],
      })
      yield* close
      assert.equal(world.took(), "+a -a")
      assert.equal(world.told()[1], "root/a stopped: Interrupt")
    })))

  it("tells of a finalizer that dies, and stops the others", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { close } = yield* open({
        id: "root",
        onReport: world.onReport,
        children: [world.child("a"), {
          id: "b",
          start: Effect.as(Effect.addFinalizer(() => Effect.die("bug")), Effect.never),
        }],
      })
      yield* close
      assert.match(world.told()[2] ?? "", /^root\/b stopped: .*Die/)
      assert.equal(world.took(), "+a -a")
    })))

  it("stops independent children at once when told to", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const children = ["a", "b", "c"].map((id) => ({
        id,
        start: Effect.succeed(stubborn(3_000)),
      }))
      const { close } = yield* open({
        id: "root",
        stopOrder: "concurrent",
        onReport: world.onReport,
        children,
      })
      const closing = yield* Effect.forkChild(close)
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(closing)
      assert.equal(world.told().filter((line) => line.endsWith("stopped: Interrupt")).length, 3)
    })))

  it("calls off a restart that waits for its delay, and leaves no timer", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const clock = yield* Clock.Clock
      let timers = 0
      const counting: Clock.Clock = {
        ...clock,
        sleep: (duration) =>
          Effect.suspend(() => {
            timers++
            return Effect.ensuring(clock.sleep(duration), Effect.sync(() => timers--))
          }),
      }
      const { close, supervisor } = yield* Effect.provideService(
        open({
          id: "root",
          backoff: { initial: "1 minute", max: "1 minute" },
          onReport: world.onReport,
          children: [world.child("a")],
        }),
        Clock.Clock,
        counting,
      )
      world.end("a")
      yield* settle(supervisor)
      assert.equal(timers, 1)
      yield* close
      assert.equal(timers, 0)
      assert.equal(world.took(), "+a -a")
      assert.equal(world.told().at(-1), "root ended: shutdown")
    })))

  it("starts nothing any more when it comes while a group is being stopped for a restart", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { close } = yield* open({
        id: "root",
        strategy: "oneForAll",
        onReport: world.onReport,
        children: [world.child("a"), { id: "b", start: Effect.succeed(stubborn(1_000)) }],
      })
      world.end("a")
      yield* world.until((lines) => lines.includes("root/a terminated: Fail, restart"))
      const closing = yield* Effect.forkChild(close)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      assert.equal(world.took(), "+a -a")
    })))

  it("interrupts a child that is initialising again", () =>
    run(Effect.gen(function* () {
      const world = new World()
      let starts = 0
      const { close, supervisor } = yield* open({
        id: "root",
        onReport: world.onReport,
        children: [world.child("a"), {
          id: "b",
          start: Effect.suspend(() =>
            ++starts === 1 ? Effect.succeed(Effect.fail("once")) : Effect.never
          ),
        }],
      })
      yield* world.until((lines) => lines.includes("root/b terminated: Fail, restart"))
      assert.equal((yield* supervisor.whichChildren)[1]?.status, "starting")
      yield* close
      assert.deepEqual(world.told().slice(3), [
        "root/b stopped: Interrupt",
        "root/a stopped: Interrupt",
        "root ended: shutdown",
      ])
    })))

  it("refuses requests that wait and those that come later", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { close, supervisor } = yield* open({
        id: "root",
        onReport: world.onReport,
        children: [],
      })
      const first = yield* Effect.forkChild(
        Effect.flip(supervisor.startChild({ id: "a", start: Effect.never })),
        { startImmediately: true },
      )
      const second = yield* Effect.forkChild(Effect.flip(supervisor.terminateChild("a")), {
        startImmediately: true,
      })
      while ((yield* supervisor.whichChildren).length === 0) yield* Effect.yieldNow
      yield* close
      assert.ok((yield* Fiber.join(first)) instanceof SupervisorStopped)
      assert.ok((yield* Fiber.join(second)) instanceof SupervisorStopped)
      const third = yield* Effect.flip(supervisor.startChild(world.child("b")))
      assert.ok(third instanceof SupervisorStopped)
      assert.equal(world.took(), "")
    })))

  it("refuses a request from a finalizer of a child instead of waiting for it", () =>
    run(Effect.gen(function* () {
      const world = new World()
      let answer: unknown
      const { close, supervisor } = yield* open({
        id: "root",
        onReport: world.onReport,
        children: [],
      })
      yield* supervisor.startChild({
        id: "a",
        start: Effect.as(
          Effect.addFinalizer(() =>
            Effect.catch(supervisor.restartChild("b"), (error) =>
              Effect.sync(() => {
                answer = error
              }))
          ),
          Effect.never,
        ),
      })
      yield* close
      assert.ok(answer instanceof SupervisorStopped)
    })))
})
