import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import fc from "fast-check"
import type { Restart } from "../../actors/kit/ChildSpec.ts"
import type { Strategy } from "../../actors/kit/Children.ts"
import { type End, open, run, settle, World } from "./harness.ts"

interface Member {
  readonly id: string
  readonly restart: Restart
  alive: boolean
}

/** OTP's rules in a few lines, without fibers: what a supervisor has to do. */
class Model {
  log: Array<string> = []
  ended = false
  now = 0
  members: Array<Member>
  readonly failing = new Map<string, number>()
  readonly strategy: Strategy
  readonly intensity: number
  #restarts: Array<number> = []

  constructor(strategy: Strategy, intensity: number, members: Array<Member>) {
    this.strategy = strategy
    this.intensity = intensity
    this.members = members
  }

  find(id: string): Member | undefined {
    return this.members.find((member) => member.id === id)
  }

  start(member: Member): boolean {
    const failures = this.failing.get(member.id) ?? 0
    if (failures > 0) this.failing.set(member.id, failures - 1)
    else this.log.push(`+${member.id}`)
    member.alive = failures === 0
    return member.alive
  }

  stop(member: Member): void {
    if (member.alive) this.log.push(`-${member.id}`)
    member.alive = false
  }

  forgetIfTemporary(member: Member): void {
    if (member.restart === "temporary") this.remove(member)
  }

  remove(member: Member): void {
    this.members = this.members.filter((other) => other !== member)
  }

  end(member: Member, how: End): void {
    this.stop(member)
    const again = member.restart === "permanent" ||
      (member.restart === "transient" && how !== "normal")
    if (again) this.recover(member)
    else this.forgetIfTemporary(member)
  }

  recover(culprit: Member): void {
    const since = this.now - 5_000
    this.#restarts = [...this.#restarts.filter((at) => at >= since), this.now]
    if (this.#restarts.length > this.intensity) return this.close()
    for (const member of this.group(culprit).toReversed()) {
      if (member === culprit) continue
      this.stop(member)
      this.forgetIfTemporary(member)
    }
    for (const member of this.group(culprit)) {
      if (!this.start(member)) return this.recover(member)
    }
  }

  group(culprit: Member): Array<Member> {
    if (this.strategy === "oneForOne") return [culprit]
    if (this.strategy === "oneForAll") return [...this.members]
    return this.members.slice(this.members.indexOf(culprit))
  }

  close(): void {
    this.ended = true
    for (const member of this.members.toReversed()) this.stop(member)
  }
}

type Step =
  | { readonly do: "end"; readonly id: string; readonly how: End }
  | { readonly do: "wait"; readonly millis: number }
  | { readonly do: "failStarts"; readonly id: string; readonly times: number }
  | { readonly do: "start"; readonly id: string; readonly restart: Restart }
  | { readonly do: "terminate" | "restart" | "delete"; readonly id: string }

const id = fc.constantFrom("a", "b", "c", "d", "e")
const restart = fc.constantFrom<Restart>("permanent", "transient", "temporary")
const how = fc.constantFrom<End>("normal", "failure", "defect", "interruption")
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("end" as const), id, how }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const), millis: fc.nat(3_000) }) },
  fc.record({ do: fc.constant("failStarts" as const), id, times: fc.nat(2) }),
  fc.record({ do: fc.constant("start" as const), id, restart }),
  fc.record({ do: fc.constantFrom("terminate", "restart", "delete"), id }),
) as fc.Arbitrary<Step>

const scenario = fc.record({
  strategy: fc.constantFrom<Strategy>("oneForOne", "oneForAll", "restForOne"),
  intensity: fc.integer({ min: 0, max: 4 }),
  kinds: fc.array(restart, { minLength: 1, maxLength: 4 }),
  steps: fc.array(step, { maxLength: 25 }),
})

/** What the model does for a step, which is nothing if the step makes no sense in its state. */
const predict = (model: Model, step: Step): void => {
  const member = "id" in step ? model.find(step.id) : undefined
  switch (step.do) {
    case "end":
      if (member?.alive) model.end(member, step.how)
      return
    case "wait":
      model.now += step.millis
      return
    case "failStarts":
      model.failing.set(step.id, step.times)
      return
    case "start": {
      if (member !== undefined) return
      const added: Member = { id: step.id, restart: step.restart, alive: false }
      if (model.start(added)) model.members.push(added)
      return
    }
    case "terminate":
      if (member === undefined) return
      model.stop(member)
      model.forgetIfTemporary(member)
      return
    case "restart":
      if (member !== undefined && !member.alive) model.start(member)
      return
    case "delete":
      if (member !== undefined && !member.alive) model.remove(member)
      return
  }
}

describe("Supervisor against a model of OTP's rules", () => {
  it("does the same for any sequence of ends, failing starts, requests and pauses", () =>
    fc.assert(
      fc.asyncProperty(scenario, ({ intensity, kinds, steps, strategy }) =>
        run(Effect.gen(function* () {
          const world = new World()
          const members = kinds.map((restart, index) => ({
            id: "abcd".charAt(index),
            restart,
            alive: false,
          }))
          const model = new Model(strategy, intensity, members)
          for (const member of members) {
            model.start(member)
          }
          const { close, supervisor } = yield* open({
            id: "root",
            strategy,
            intensity,
            onReport: world.onReport,
            children: members.map(({ id, restart }) =>
              world.child(id, { restart })
            ),
          })

          for (const step of steps) {
            if (model.ended) break
            const alive = "id" in step && model.find(step.id)?.alive === true
            predict(model, step)
            switch (step.do) {
              case "end":
                if (alive) world.end(step.id, step.how)
                break
              case "wait":
                yield* TestClock.adjust(step.millis)
                break
              case "failStarts":
                world.failStarts(step.id, step.times)
                break
              case "start":
                yield* Effect.ignore(
                  supervisor.startChild(world.child(step.id, { restart: step.restart })),
                )
                break
              case "terminate":
                yield* Effect.ignore(supervisor.terminateChild(step.id))
                break
              case "restart":
                yield* Effect.ignore(supervisor.restartChild(step.id))
                break
              case "delete":
                yield* Effect.ignore(supervisor.deleteChild(step.id))
                break
            }
            yield* model.ended ? Effect.ignore(supervisor.awaitExit) : settle(supervisor)
            assert.deepEqual(world.log, model.log)
            if (model.ended) break
            assert.deepEqual(
              (yield* supervisor.whichChildren).map((child) => [child.id, child.status]),
              model.members.map((m) => [m.id, m.alive ? "running" : "terminated"]),
            )
          }

          if (!model.ended) model.close()
          yield* close
          assert.deepEqual(world.log, model.log)
        }))),
      { numRuns: 150 },
    ))
})
