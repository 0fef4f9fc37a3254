import assert from "node:assert/strict"
import { describe } from "node:test"
import {
  type Event,
  InvalidOptions,
  InvalidPayload,
  job,
  Recurring,
  RecurringNotFound,
  Retry,
} from "../../actors/promise/mod.ts"
import { testServer } from "../harness.ts"
import { anything, mail, numeric, promised, rejection, watch, withClient } from "./world.ts"

const Send = job("mail/send", { payload: mail, retry: Retry.none })
const Double = job("double", { payload: numeric, retry: Retry.none })
const Origin = job("origin", { success: anything, retry: Retry.none })

describe("recurring entries with promises", () => {
  const server = testServer()

  promised(
    "run, and their handlers know of which entry and time",
    () =>
      withClient(server, async (portfire) => {
        const { onEvent, until } = watch()
        await portfire.serve({
          queues: { default: 5 },
          onEvent,
          handlers: [Origin.handler((_, { recurring }) => recurring)],
        })
        const at = new Date(Date.now() + 300)
        const { change } = await portfire.recurring.upsert("once", {
          job: Origin,
          schedule: { at: [at] },
        })
        assert.equal(change, "created")
        const byHand = await portfire.recurring.trigger("once")
        assert.equal((await portfire.await(Origin, byHand) as { entry: string }).entry, "once")
        await until((event): event is Event & { _tag: "JobMoved" } =>
          event._tag === "JobMoved" && event.to === "succeeded" && event.id !== byHand
        )
        const runs = await portfire.recurring.history("once")
        const run = runs.find((one) => !one.byHand)
        assert.deepEqual(run?.at, at)
        assert.deepEqual(await portfire.await(Origin, run?.id ?? ""), { entry: "once", at })
        assert.equal((await portfire.recurring.get("once")).state, "finished")
      }),
  )

  promised(
    "are synced, listed, paused, resumed and removed",
    () =>
      withClient(server, async ({ recurring }) => {
        const daily = Recurring.define("daily", {
          job: Send,
          payload: { to: "ada" },
          schedule: "@daily",
        })
        const double = Recurring.define("double", {
          job: Double,
          payload: "21",
          schedule: { every: "1 hour" },
        })
        assert.deepEqual((await recurring.sync([daily, double])).created, ["daily", "double"])
        const page = await recurring.list({ search: "MAIL", signal: AbortSignal.timeout(5_000) })
        assert.deepEqual(page.entries.map(({ id, payload }) => [id, payload]), [
          ["daily", { to: "ada" }],
        ])
        const [next] = await recurring.next("daily", 1)
        assert.deepEqual(next, page.entries[0]?.next)
        assert.equal((await recurring.pause("daily")).state, "paused")
        assert.equal((await recurring.resume("daily")).state, "active")
        const { removed } = await recurring.sync([daily], { removeOthers: true })
        assert.deepEqual(removed, ["double"])
        assert.deepEqual([await recurring.remove("daily"), await recurring.remove("daily")], [
          true,
          false,
        ])
        assert.ok(await rejection(recurring.get("daily")) instanceof RecurringNotFound)
      }),
  )

  promised("are refused as in any other style", () =>
    withClient(server, async ({ recurring }) => {
      const late = recurring.upsert("a", { job: Origin, schedule: "@daily", timeZone: "Mars" })
      assert.ok(await rejection(late) instanceof InvalidOptions)
      const typo = recurring.upsert("a", { job: Origin, schedule: "@daily", dely: 5 } as never)
      assert.match(String(await rejection(typo)), /options\.dely/)
      const payload = { to: 5 } as never
      const bad = recurring.sync([
        Recurring.define("a", { job: Send, payload, schedule: "@daily" }),
      ])
      const refused = await rejection(bad)
      assert.ok(refused instanceof InvalidPayload)
      assert.match(refused.message, /declarations\["a"\]\.payload/)
      assert.throws(() => Recurring.preview({ schedule: "0 0 31 2 *" }), InvalidOptions)
      const after = { count: 2, after: "2030-01-31T23:00:00Z" }
      assert.deepEqual(Recurring.preview({ schedule: "@monthly" }, after), [
        new Date("2030-02-01T00:00:00Z"),
        new Date("2030-03-01T00:00:00Z"),
      ])
    }))
})
