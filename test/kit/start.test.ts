import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { StartFailed } from "../../actors/kit/errors.ts"
import * as Supervisor from "../../actors/kit/Supervisor.ts"
import { run, World } from "./harness.ts"

describe("Supervisor.start", () => {
  it("starts each child after the one before has initialised", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const ready = yield* Deferred.make<void>()
      const slow = {
        id: "b",
        start: Effect.andThen(Deferred.await(ready), world.child("b").start),
      }
      const starting = yield* Effect.forkChild(Supervisor.start({
        id: "root",
        onReport: world.onReport,
        children: [world.child("a"), slow, world.child("c")],
      }))
      yield* world.until((lines) => lines.includes("root/a started"))
      assert.equal(world.took(), "+a")
      assert.equal(starting.pollUnsafe(), undefined)
      yield* Deferred.succeed(ready, undefined)
      yield* Fiber.join(starting)
      assert.equal(world.took(), "+b +c")
      assert.deepEqual(world.told(), ["root/a started", "root/b started", "root/c started"])
    })))

  for (
    const [how, start] of [
      ["fails", Effect.fail(new Error("no"))],
      ["dies", Effect.die(new Error("no"))],
      ["is interrupted", Effect.interrupt],
    ] as const
  ) {
    it(`stops what it had started, right to left, when a child ${how} while initialising`, () =>
      run(Effect.gen(function* () {
        const world = new World()
        const error = yield* Effect.flip(Supervisor.start({
          id: "root",
          onReport: world.onReport,
          children: [
            world.child("a"),
            world.child("b"),
            { id: "c", start },
            world.child("d"),
          ],
        }))
        assert.ok(error instanceof StartFailed)
        assert.equal(error.child, "c")
        assert.equal(world.took(), "+a +b -b -a")
        assert.deepEqual(world.told(), [
          "root/a started",
          "root/b started",
          `root/c start failed: ${
            { fails: "Fail", dies: "Die", "is interrupted": "Interrupt" }[how]
          }`,
          "root/b stopped: Interrupt",
          "root/a stopped: Interrupt",
          "root ended: startFailed",
        ])
      })))
  }

  it("says in the error which child failed and why", () =>
    run(Effect.gen(function* () {
      const error = yield* Effect.flip(Supervisor.start({
        id: "root",
        onReport: () => {},
        children: [{ id: "c", start: Effect.fail(new Error("no such table")) }],
      }))
      assert.equal(
        error.message,
        `child "c" of supervisor "root" failed to start: no such table`,
      )
    })))

  it("releases what the child that failed had acquired", () =>
    run(Effect.gen(function* () {
      const log: Array<string> = []
      yield* Effect.flip(Supervisor.start({
        id: "root",
        onReport: () => {},
        children: [{
          id: "a",
          start: Effect.gen(function* () {
            yield* Effect.addFinalizer(() => Effect.sync(() => log.push("released")))
            return yield* Effect.fail("no")
          }),
        }],
      }))
      assert.deepEqual(log, ["released"])
    })))

  it("stops everything when it is interrupted while a child initialises", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const starting = yield* Effect.forkChild(Supervisor.start({
        id: "root",
        onReport: world.onReport,
        children: [
          world.child("a"),
          {
            id: "b",
            start: Effect.onInterrupt(Effect.never, () => Effect.sync(() => world.log.push("-b"))),
          },
        ],
      }))
      yield* world.until((lines) => lines.includes("root/a started"))
      yield* Fiber.interrupt(starting)
      assert.equal(world.took(), "+a -b -a")
      assert.equal(world.told().at(-1), "root ended: shutdown")
    })))

  it("is interrupted by a scope that is already closed, and starts nothing", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      const exit = yield* Effect.exit(Scope.provide(
        Supervisor.start({ id: "root", children: [world.child("a")], onReport: world.onReport }),
        scope,
      ))
      assert.ok(Exit.hasInterrupts(exit))
      assert.equal(world.took(), "")
    })))

  it("gives children the services of the caller", () =>
    run(Effect.gen(function* () {
      const seen: Array<string> = []
      const Name: Context.Service<string, string> = Context.Service<string>("test/kit/Name")
      const start = Effect.gen(function* () {
        seen.push(yield* Name)
        return Effect.andThen(Effect.map(Name, (name) => seen.push(name)), Effect.never)
      })
      const supervisor = yield* Effect.provideService(
        Supervisor.start({ id: "root", children: [{ id: "a", start }] }),
        Name,
        "static",
      )
      yield* Effect.provideService(supervisor.startChild({ id: "b", start }), Name, "dynamic")
      assert.deepEqual(seen, ["static", "static", "dynamic", "dynamic"]) // @ts-expect-error What a child requires has to be provided.
      ;((): Effect.Effect<unknown, unknown> => supervisor.startChild({ id: "c", start }))
    })))

  const never = Effect.succeed(Effect.never)
  const refused: ReadonlyArray<readonly [string, string, object]> = [
    ["an empty id", "id", { id: "" }],
    ["an unknown strategy", "strategy", { strategy: "one_for_one" }],
    ["a negative intensity", "intensity", { intensity: -1 }],
    ["half a restart", "intensity", { intensity: 1.5 }],
    ["an empty period", "period", { period: 0 }],
    ["an endless period", "period", { period: "Infinity" }],
    ["a negative back-off", "backoff.initial", { backoff: { initial: -1, max: 1 } }],
    ["a shrinking back-off", "backoff.factor", { backoff: { initial: 1, max: 1, factor: 0.5 } }],
    ["an endless back-off", "backoff.max", { backoff: { initial: 1, max: "Infinity" } }],
    ["an unknown stop order", "stopOrder", { stopOrder: "leftToRight" }],
    ["a concurrent stop of dependants", "stopOrder", {
      stopOrder: "concurrent",
      strategy: "restForOne",
    }],
    ["a child without id", "children[0].id", { children: [{ id: "", start: never }] }],
    ["an unknown restart kind", "children[0].restart", {
      children: [{ id: "a", start: never, restart: "always" }],
    }],
    ["an unknown child type", "children[0].type", {
      children: [{ id: "a", start: never, type: "process" }],
    }],
    ["a negative shutdown time", "children[0].shutdown", {
      children: [{ id: "a", start: never, shutdown: -5 }],
    }],
    ["two children with one id", "children[1].id", {
      children: [{ id: "a", start: never }, { id: "a", start: never }],
    }],
  ]
  for (const [what, field, options] of refused) {
    it(`refuses ${what} and names the field`, () =>
      run(Effect.gen(function* () {
        const given = { id: "root", children: [], ...options } as Supervisor.Options
        const error = yield* Effect.flip(Supervisor.start(given))
        assert.equal(error._tag, "InvalidOptions")
        assert.equal(error._tag === "InvalidOptions" && error.field, field)
      }) as Effect.Effect<void, never, Scope.Scope>))
  }
})
