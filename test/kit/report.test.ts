import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/testing/TestClock"
import * as Report from "../../actors/kit/Report.ts"
import * as Supervisor from "../../actors/kit/Supervisor.ts"
import { open, run, settle, World } from "./harness.ts"

describe("Supervisor reports", () => {
  it("tell of a life with a crash in the order of events", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const { close, supervisor } = yield* open({
        id: "root",
        strategy: "restForOne",
        onReport: world.onReport,
        children: [world.child("a"), world.child("b"), world.child("c", { restart: "transient" })],
      })
      world.end("c", "normal")
      yield* settle(supervisor)
      world.end("a", "defect")
      yield* settle(supervisor)
      yield* close
      assert.deepEqual(world.told(), [
        "root/a started",
        "root/b started",
        "root/c started",
        "root/c terminated: normal",
        "root/a terminated: Die, restart",
        "root/b stopped: Interrupt",
        "root/a restarted because of a",
        "root/b restarted because of a",
        "root/c restarted because of a",
        "root/c stopped: Interrupt",
        "root/b stopped: Interrupt",
        "root/a stopped: Interrupt",
        "root ended: shutdown",
      ])
    })))

  it("are values with the time, the place and the exit", () =>
    run(Effect.gen(function* () {
      const world = new World()
      yield* TestClock.setTime(1_700_000_000_000)
      const { supervisor } = yield* open({
        id: "root",
        onReport: world.onReport,
        children: [world.child("a")],
      })
      yield* TestClock.adjust(5)
      const error = new Error("boom")
      world.end("a", Effect.fail(error))
      yield* settle(supervisor)
      assert.deepEqual(world.reports[0], {
        _tag: "ChildStarted",
        supervisor: "root",
        child: "a",
        type: "worker",
        at: 1_700_000_000_000,
      })
      assert.deepEqual(world.reports[1], {
        _tag: "ChildTerminated",
        supervisor: "root",
        child: "a",
        type: "worker",
        exit: Exit.fail(error),
        restart: true,
        at: 1_700_000_000_005,
      })
    })))

  it("go to the observers of all supervisors above, the nearest first", () =>
    run(Effect.gen(function* () {
      const seen: Array<string> = []
      const as = (name: string) => (report: Report.Report) =>
        seen.push(`${name}: ${Report.format(report)}`)
      const leaf = { id: "leaf", start: Effect.succeed(Effect.never) }
      yield* Supervisor.start({
        id: "root",
        onReport: as("root"),
        children: [Supervisor.childSpec({
          id: "mid",
          onReport: as("mid"),
          children: [Supervisor.childSpec({ id: "low", children: [leaf] })],
        })],
      })
      assert.deepEqual(seen, [
        "mid: worker root/mid/low/leaf started",
        "root: worker root/mid/low/leaf started",
        "mid: supervisor root/mid/low started",
        "root: supervisor root/mid/low started",
        "root: supervisor root/mid started",
      ])
    })))

  const logged = (
    program: Effect.Effect<void, unknown, never>,
  ): Effect.Effect<Array<string>, unknown> =>
    Effect.suspend(() => {
      const lines: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => {
        lines.push(`${logLevel} ${Array.isArray(message) ? message[0] : message}`)
      })
      return Effect.as(Effect.provide(program, Logger.layer([logger])), lines)
    })

  it("survive an observer that throws, which is logged, and reach the other observers", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const lines = yield* logged(Effect.scoped(Effect.gen(function* () {
        yield* Supervisor.start({
          id: "root",
          onReport: world.onReport,
          children: [Supervisor.childSpec({
            id: "nested",
            onReport: () => {
              throw new Error("observer bug")
            },
            children: [world.child("a")],
          })],
        })
      })))
      assert.deepEqual(world.told().slice(0, 2), ["root/nested/a started", "root/nested started"])
      assert.equal(world.took(), "+a -a")
      assert.equal(
        lines[0],
        "Warn the observer of root/nested threw on: worker root/nested/a started",
      )
    })))

  it("of trouble are logged as warnings where nobody observes, those of order are not", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const lines = yield* logged(Effect.scoped(Effect.gen(function* () {
        const supervisor = yield* Supervisor.start({ id: "root", children: [world.child("a")] })
        world.end("a")
        yield* settle(supervisor)
      })))
      assert.deepEqual(lines, ["Warn worker root/a terminated, to be restarted"])
    })))

  it("read as one line each", () => {
    const child = { supervisor: "root", child: "a", type: "worker", at: 0 } as const
    const exit = Exit.fail("x")
    const reports: ReadonlyArray<readonly [Report.Report, boolean, string]> = [
      [{ _tag: "ChildStarted", ...child }, false, "worker root/a started"],
      [
        { _tag: "ChildRestarted", ...child, because: "b" },
        false,
        "worker root/a restarted because of b",
      ],
      [
        { _tag: "ChildStartFailed", ...child, exit, restarting: true },
        true,
        "worker root/a failed to restart",
      ],
      [
        { _tag: "ChildTerminated", ...child, exit, restart: false },
        true,
        "worker root/a terminated, not restarted",
      ],
      [
        { _tag: "ChildTerminated", ...child, exit: Exit.void, restart: true },
        false,
        "worker root/a terminated, to be restarted",
      ],
      [{ _tag: "ChildStopped", ...child, exit }, true, "worker root/a stopped"],
      [{ _tag: "ChildStopped", ...child, exit: Exit.interrupt() }, false, "worker root/a stopped"],
      [
        { _tag: "ShutdownTimedOut", ...child, waited: 5 },
        true,
        "worker root/a abandoned: it did not stop within 5 ms",
      ],
      [
        { _tag: "AbandonedChildEnded", ...child, exit: Exit.void },
        false,
        "worker root/a, abandoned before, ended",
      ],
      [
        { _tag: "IntensityExceeded", ...child, intensity: 1, period: 5 },
        true,
        "supervisor root gives up: a needed more than 1 restarts in 5 ms",
      ],
      [
        { _tag: "SupervisorStopped", supervisor: "root", at: 0, reason: "shutdown" },
        false,
        "supervisor root stopped (shutdown)",
      ],
    ]
    for (const [report, trouble, line] of reports) {
      assert.equal(Report.format(report), line)
      assert.equal(Report.isTrouble(report), trouble, line)
    }
  })
})
