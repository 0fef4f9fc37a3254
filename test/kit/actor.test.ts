import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Actor from "../../actors/kit/Actor.ts"
import { ActorStopped, AskTimedOut } from "../../actors/kit/errors.ts"
import { open, run, settle, World } from "./harness.ts"

type Message =
  | { readonly _tag: "Add"; readonly amount: number }
  | { readonly _tag: "Get"; readonly reply: Actor.Reply<number> }
  | { readonly _tag: "Divide"; readonly by: number; readonly reply: Actor.Reply<number, string> }
  | { readonly _tag: "Wait"; readonly until: Deferred.Deferred<void> }
  | { readonly _tag: "Ignore"; readonly reply: Actor.Reply<number> }
  | { readonly _tag: "Crash" }

const add = (amount: number): Message => ({ _tag: "Add", amount })
const get = (reply: Actor.Reply<number>): Message => ({ _tag: "Get", reply })

const counter = (capacity?: number) =>
  Actor.make({
    id: "counter",
    ...(capacity === undefined ? {} : { capacity }),
    init: Effect.succeed(0),
    handle: (count: number, message: Message) => {
      switch (message._tag) {
        case "Add":
          return Effect.succeed(count + message.amount)
        case "Get":
          return Effect.as(message.reply.succeed(count), count)
        case "Divide":
          return message.by === 0
            ? Effect.as(message.reply.fail("by zero"), count)
            : Effect.as(message.reply.succeed(count / message.by), count)
        case "Wait":
          return Effect.as(Deferred.await(message.until), count)
        case "Ignore":
          return Effect.succeed(count)
        case "Crash":
          return Effect.die("crash")
      }
    },
  })

const started = (actor: Actor.Actor<Message>, world = new World()) =>
  open({ id: "root", onReport: world.onReport, children: [actor.child] })

describe("Actor", () => {
  it("handles messages one at a time, in order, each with the state the last one left", () =>
    run(Effect.gen(function* () {
      const actor = counter()
      yield* started(actor)
      for (let i = 1; i <= 100; i++) yield* actor.tell(add(i))
      assert.equal(yield* actor.ask(get), 5050)
    })))

  it("answers an ask with a value or with a failure, and lives on", () =>
    run(Effect.gen(function* () {
      const actor = counter()
      yield* started(actor)
      yield* actor.tell(add(10))
      const divide = (by: number) =>
        actor.ask<number, string>((reply) => ({ _tag: "Divide", by, reply }))
      assert.equal(yield* divide(4), 2.5)
      assert.equal(yield* Effect.flip(divide(0)), "by zero")
      assert.equal(yield* actor.ask(get), 10)
    })))

  it("fails asks that get no reply in time, 5 seconds by default", () =>
    run(Effect.gen(function* () {
      const actor = counter()
      yield* started(actor)
      for (const [timeout, waited] of [[undefined, 5_000], ["100 millis", 100]] as const) {
        const ask = actor.ask<number>((reply) => ({ _tag: "Ignore", reply }), timeout)
        const asking = yield* Effect.forkChild(Effect.flip(ask))
        yield* TestClock.adjust(waited - 1)
        assert.equal(asking.pollUnsafe(), undefined)
        yield* TestClock.adjust(1)
        const error = yield* Fiber.join(asking)
        assert.ok(error instanceof AskTimedOut)
        assert.equal(error.message, `actor "counter" did not reply within ${waited} ms`)
      }
    })))

  it("fails the asks that wait when it crashes, and starts again with a fresh state", () =>
    run(Effect.gen(function* () {
      const world = new World()
      const actor = counter()
      const { supervisor } = yield* started(actor, world)
      const until = yield* Deferred.make<void>()
      yield* actor.tell(add(7))
      yield* actor.tell({ _tag: "Wait", until })
      yield* actor.tell({ _tag: "Crash" })
      const asking = yield* Effect.forkChild(Effect.flip(actor.ask(get)), {
        startImmediately: true,
      })
      yield* Deferred.succeed(until, undefined)
      assert.ok((yield* Fiber.join(asking)) instanceof ActorStopped)
      yield* world.until((lines) => lines.includes("root/counter restarted because of counter"))
      yield* settle(supervisor)
      assert.equal(yield* actor.ask(get), 0)
    })))

  it("makes tellers wait while its mailbox is full", () =>
    run(Effect.gen(function* () {
      const actor = counter(2)
      yield* started(actor)
      const until = yield* Deferred.make<void>()
      yield* actor.tell({ _tag: "Wait", until })
      while ((yield* actor.size) > 0) yield* Effect.yieldNow
      yield* actor.tell(add(1))
      yield* actor.tell(add(1))
      const third = yield* Effect.forkChild(actor.tell(add(1)), { startImmediately: true })
      assert.equal(third.pollUnsafe(), undefined)
      assert.equal(yield* actor.size, 2)
      yield* Deferred.succeed(until, undefined)
      yield* Fiber.join(third)
      assert.equal(yield* actor.ask(get), 3)
    })))

  it("fails tellers that wait when it stops", () =>
    run(Effect.gen(function* () {
      const actor = counter(1)
      const { close } = yield* started(actor)
      const until = yield* Deferred.make<void>()
      yield* actor.tell({ _tag: "Wait", until })
      while ((yield* actor.size) > 0) yield* Effect.yieldNow
      yield* actor.tell(add(1))
      const waiting = yield* Effect.forkChild(Effect.flip(actor.tell(add(1))), {
        startImmediately: true,
      })
      yield* close
      assert.ok((yield* Fiber.join(waiting)) instanceof ActorStopped)
    })))

  it("refuses messages before it has started and after it has stopped", () =>
    run(Effect.gen(function* () {
      const actor = counter()
      const refused = Effect.gen(function* () {
        assert.ok((yield* Effect.flip(actor.tell(add(1)))) instanceof ActorStopped)
        assert.ok((yield* Effect.flip(actor.ask(get))) instanceof ActorStopped)
        assert.equal(yield* actor.size, 0)
      })
      yield* refused
      const { close } = yield* started(actor)
      yield* actor.tell(add(1))
      yield* close
      yield* refused
    })))

  it("releases what its init acquired after the asks that wait have failed", () =>
    run(Effect.gen(function* () {
      const log: Array<string> = []
      const actor = Actor.make({
        id: "holder",
        init: Effect.acquireRelease(
          Effect.succeed(0),
          () => Effect.sync(() => log.push("released")),
        ),
        handle: (state: number, _message: Actor.Reply<number>) => Effect.succeed(state),
      })
      const { close } = yield* open({ id: "root", children: [actor.child] })
      const asking = yield* Effect.forkChild(
        Effect.onExit(actor.ask<number>((reply) => reply), (exit) =>
          Effect.sync(() => {
            log.push(Exit.isFailure(exit) ? "failed" : "answered")
          })),
        { startImmediately: true },
      )
      yield* close
      yield* Fiber.await(asking)
      assert.deepEqual(log, ["failed", "released"])
    })))
})
