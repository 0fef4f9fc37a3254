import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import * as Job from "../../src/client/Job.ts"
import { InvalidOptions } from "../../src/core/errors.ts"
import * as Retry from "../../src/core/Retry.ts"
import { Discard, Snooze } from "../../src/core/Signal.ts"

const refusal = (make: () => unknown): InvalidOptions => {
  try {
    make()
  } catch (error) {
    assert.ok(error instanceof InvalidOptions, String(error))
    return error
  }
  return assert.fail("it was accepted")
}

const bad = (value: unknown) => value as never

describe("a definition", () => {
  it("has defaults for everything but its name", () => {
    const { definition, name } = Job.make("hello")
    assert.equal(name, "hello")
    assert.equal(definition.queue, "default")
    assert.equal(definition.lane, 3)
    assert.equal(definition.retry, Retry.standard)
    assert.equal(definition.timeout, undefined)
    assert.equal(definition.retention, undefined)
  })

  it("keeps what it is given", () => {
    const { definition } = Job.make("mail/welcome", {
      payload: Schema.Struct({ to: Schema.String }),
      queue: "mail",
      priority: "critical",
      retry: Retry.none,
      timeout: "30 seconds",
      retention: { age: "2 days", count: 5 },
    })
    assert.equal(definition.queue, "mail")
    assert.equal(definition.lane, 1)
    assert.equal(definition.retry, Retry.none)
    assert.equal(definition.timeout, 30_000)
    assert.deepEqual(definition.retention, { ageMillis: 172_800_000, count: 5 })
  })

  it("with its own retention has a class of its own, the same wherever it is made", () => {
    const classOf = (name: string) =>
      Job.make(name, { retention: { count: 5 } }).definition.retentionClass
    assert.match(classOf("a") ?? "", /^_[0-9a-f]{8}$/)
    assert.equal(classOf("a"), classOf("a"))
    assert.notEqual(classOf("a"), classOf("b"))
    assert.equal(Job.make("a").definition.retentionClass, undefined)
  })
})

describe("a definition with a mistake", () => {
  const cases: ReadonlyArray<readonly [string, () => unknown]> = [
    ["name", () => Job.make("")],
    ["name", () => Job.make("_own")],
    ["name", () => Job.make("two words")],
    ["name", () => Job.make("a.b")],
    ["name", () => Job.make("x".repeat(65))],
    ["name", () => Job.make(bad(undefined))],
    ["name", () => Job.make(bad(5))],
    ["queue", () => Job.make("a", { queue: "" })],
    ["queue", () => Job.make("a", { queue: "_own" })],
    ["queue", () => Job.make("a", { queue: "mail/urgent" })],
    ["queue", () => Job.make("a", { queue: "mail.>" })],
    ["queue", () => Job.make("a", { queue: bad(5) })],
    ["priority", () => Job.make("a", { priority: bad("urgent") })],
    ["priority", () => Job.make("a", { priority: bad(1) })],
    ["priority", () => Job.make("a", { priority: bad("constructor") })],
    ["timeout", () => Job.make("a", { timeout: 0 })],
    ["timeout", () => Job.make("a", { timeout: -1 })],
    ["timeout", () => Job.make("a", { timeout: Number.NaN })],
    ["timeout", () => Job.make("a", { timeout: "Infinity" })],
    ["timeout", () => Job.make("a", { timeout: 1e300 })],
    ["timeout", () => Job.make("a", { timeout: bad({}) })],
    ["retry", () => Job.make("a", { retry: bad(5) })],
    ["retry", () => Job.make("a", { retry: bad({ attempts: 5 }) })],
    ["retry", () => Job.make("a", { retry: bad(() => Retry.none) })],
    ["retry.attempts", () => Job.make("a", { retry: Retry.exponential({ attempts: 0 }) })],
    ["retry.delay", () => Job.make("a", { retry: Retry.fixed({ attempts: 2, delay: -1 }) })],
    ["retention", () => Job.make("a", { retention: bad(5) })],
    ["retention.age", () => Job.make("a", { retention: { age: -1 } })],
    ["retention.age", () => Job.make("a", { retention: { age: bad("forever") } })],
    ["retention.count", () => Job.make("a", { retention: { count: 1.5 } })],
    ["retention.count", () => Job.make("a", { retention: { count: -1 } })],
    ["retention.days", () => Job.make("a", { retention: bad({ days: 5 }) })],
    ["options.prioriy", () => Job.make("a", bad({ prioriy: "high" }))],
    ["options.delay", () => Job.make("a", bad({ delay: 5 }))],
    ["options", () => Job.make("a", bad(null))],
    ["options", () => Job.make("a", bad("mail"))],
  ]
  for (const [index, [field, make]] of cases.entries()) {
    it(`is thrown as one at ${field}, case ${index}`, () => {
      const error = refusal(make)
      assert.equal(error.field, field)
      assert.ok(error.message.startsWith(`${field}: `))
    })
  }
})

describe("a handler's word", () => {
  const defectOf = (effect: Effect.Effect<never>) => {
    const exit = Effect.runSyncExit(effect)
    assert.ok(Exit.isFailure(exit))
    return Cause.squash(exit.cause)
  }

  it("to discard carries its reason", () => {
    const defect = defectOf(Job.discard("no such user"))
    assert.ok(defect instanceof Discard && defect.reason === "no such user")
  })

  it("to snooze carries its delay in milliseconds", () => {
    const defect = defectOf(Job.snooze("2 minutes"))
    assert.ok(defect instanceof Snooze && defect.millis === 120_000)
  })

  it("to snooze for no time there is dies with the mistake", () => {
    for (const delay of [-1, Number.NaN, "Infinity", 1e300, bad("soon")] as const) {
      const defect = defectOf(Job.snooze(delay))
      assert.ok(defect instanceof InvalidOptions && defect.field === "delay")
    }
  })
})
