import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { connect, InvalidOptions, IsolatedFailed, JobFailed } from "../../actors/promise/mod.ts"
import { freshNamespace, testServer } from "../harness.ts"
import { Nothing, Process, Thread } from "./programs/isolatedPromises.ts"

const module = new URL("./programs/isolatedPromises.ts", import.meta.url)

describe("An isolated async function", () => {
  const nats = testServer()
  const world = async () =>
    await connect({
      servers: await nats.url(),
      authentication: nats.credentials,
      namespace: freshNamespace(),
    })

  it("gets and returns values as one in the server does, logs and reports", async () => {
    await using portfire = await world()
    await portfire.serve({
      queues: { default: 4 },
      handlers: [Thread, Process, Nothing].map((job) => job.isolated(module, { workers: 1 })),
    })
    for (const job of [Thread, Process]) {
      const id = await portfire.enqueue(job, "21")
      assert.equal(await portfire.await(job, id, { within: "20 seconds" }), 42)
      for await (const news of portfire.follow(id)) {
        if (news._tag === "Line") assert.deepEqual(news.annotations, { id })
        else assert.equal(news.fraction, 1)
      }
      const { lines } = await portfire.logs(id)
      assert.deepEqual(lines.map(({ text }) => text), ["computing"])
    }
    assert.equal(await portfire.execute(Nothing, undefined), undefined)
  })

  it("throws to its retry policy, and discards", async () => {
    await using portfire = await world()
    await portfire.serve({
      queues: { default: 4 },
      handlers: [Thread.isolated(module, { workers: 1 }), Process.isolated(module, { workers: 1 })],
    })
    for (const job of [Thread, Process]) {
      const busy = await portfire.enqueue(job, "2")
      await assert.rejects(portfire.await(job, busy, { within: "20 seconds" }), JobFailed)
      const { attempts } = await portfire.get(busy)
      assert.deepEqual(attempts.map(({ ending, message }) => [ending, message]), [
        ["failed", "busy"],
        ["failed", "busy"],
      ])
      assert.match(attempts[0]?.stack ?? "", /isolatedPromises\.ts/)
      const one = await portfire.enqueue(job, "1")
      await assert.rejects(portfire.await(job, one, { within: "20 seconds" }), /not one/)
    }
  })

  it("is bound by isolated and not by handler; a module that can't be started is told", async () => {
    assert.throws(() => Thread.handler(() => "1"), InvalidOptions)
    await using portfire = await world()
    const nowhere = new URL("./nowhere.ts", import.meta.url)
    await assert.rejects(
      portfire.serve({ queues: { default: 1 }, handlers: [Thread.isolated(nowhere)] }),
      IsolatedFailed,
    )
  })
})
