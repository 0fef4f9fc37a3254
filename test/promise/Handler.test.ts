import assert from "node:assert/strict"
import { describe } from "node:test"
import {
  EnqueueVetoed,
  type Event,
  job,
  JobCancelled,
  JobFailed,
  middleware,
  Retry,
  veto,
} from "../../actors/promise/mod.ts"
import { testServer } from "../harness.ts"
import { gate, mail, numeric, promised, rejection, watch, withClient } from "./world.ts"

type Moved = Extract<Event, { readonly _tag: "JobMoved" }>
const movedOf = (id: string) => (event: Event): event is Moved =>
  event._tag === "JobMoved" && event.id === id

const once = { retry: Retry.none } as const

describe("a handler that is an async function", () => {
  const server = testServer()

  promised(
    "is told what it runs for, reports, logs and enqueues",
    () =>
      withClient(server, async (portfire) => {
        const Next = job("next", once)
        const Work = job("work", { payload: mail, queue: "mail", logs: true, ...once })
        const seen = gate<ReadonlyArray<unknown>>()
        await portfire.serve({
          queues: { mail: 5 },
          handlers: [Work.handler(async ({ to }, context) => {
            const { client, id, name, attempt, queue, signal } = context
            context.progress({ done: 1, total: 4, note: to })
            context.log("half way", { level: "Warn", annotations: { to } })
            const next = await client.enqueue(Next)
            seen.resolve([id, name, attempt, queue, signal.aborted, next])
          })],
        })
        const id = await portfire.enqueue(Work, { to: "ada" })
        await portfire.await(Work, id)
        const facts = await seen.promise
        assert.deepEqual(facts.slice(0, 5), [id, "work", 1, "mail", false])
        assert.equal((await portfire.get(facts[5] as string)).name, "next")
        const told: Array<unknown> = []
        for await (const item of portfire.follow(id)) {
          told.push(
            item._tag === "Line" ? [item.text, item.level, item.annotations] : item.fraction,
          )
        }
        assert.deepEqual(told, [["half way", "Warn", { to: "ada" }], 0.25])
        assert.equal((await portfire.progress(id))?.note, "ada")
        assert.deepEqual((await portfire.logs(id)).lines.map(({ text }) => text), ["half way"])
      }),
  )

  promised(
    "fails with what it throws and is retried as the policy decides",
    () =>
      withClient(server, async (portfire) => {
        class Busy extends Error {}
        const decided: Array<unknown> = []
        const Flaky = job("flaky", {
          payload: numeric,
          success: numeric,
          retry: Retry.fixed({
            attempts: 5,
            delay: "1 hour",
            decide: (error, attempt) => {
              decided.push([error instanceof Busy, attempt])
              return error instanceof Busy ? 1 : false
            },
          }),
        })
        await portfire.serve({
          queues: { default: 5 },
          handlers: [Flaky.handler((limit, { attempt }) => {
            if (attempt < 3) return Promise.reject(new Busy("come back"))
            if (limit === 0) throw new TypeError("never")
            return String(attempt)
          })],
        })
        const id = await portfire.enqueue(Flaky, "1")
        assert.equal(await portfire.await(Flaky, id), 3)
        const error = await rejection(portfire.execute(Flaky, "0"))
        assert.ok(error instanceof JobFailed, String(error))
        const [first, , third] = error.record.attempts
        assert.deepEqual([first?.ending, first?.message], ["failed", "come back"])
        assert.deepEqual([third?.ending, third?.message, third?.error], [
          "failed",
          "never",
          undefined,
        ])
        assert.match(third?.stack ?? "", /TypeError: never[\s\S]*Handler\.test/)
        assert.deepEqual(decided.slice(-3), [[true, 1], [true, 2], [false, 3]])
        assert.equal((await portfire.get(Flaky, error.id)).attempts.length, 3)
      }),
  )

  promised(
    "may discard its job or have it run again later",
    () =>
      withClient(server, async (portfire) => {
        const Picky = job("picky", { payload: mail })
        const { onEvent, until } = watch()
        await portfire.serve({
          queues: { default: 5 },
          onEvent,
          handlers: [Picky.handler(async ({ to }, context) => {
            await Promise.resolve()
            if (to === "later") context.snooze("1 hour")
            if (to === "never") context.snooze(-1)
            context.discard("nobody wants it")
          })],
        })
        const error = await rejection(portfire.execute(Picky, { to: "nobody" }))
        assert.ok(error instanceof JobFailed)
        assert.deepEqual(error.record.attempts.map(({ ending }) => ending), ["discarded"])
        assert.equal(error.reason, "nobody wants it")
        const id = await portfire.enqueue(Picky, { to: "later" })
        await until(movedOf(id))
        const record = await portfire.get(id)
        assert.deepEqual([record.state, record.snoozes], ["scheduled", 1])
        const bad = await portfire.enqueue(Picky, { to: "never" })
        await until(movedOf(bad))
        const [attempt] = (await portfire.get(bad)).attempts
        assert.match(attempt?.message ?? "", /^delay: -1 is not accepted/)
      }),
  )

  promised(
    "has its signal aborted when it takes too long, and its result does not count",
    () =>
      withClient(server, async (portfire) => {
        const Slow = job("slow", { success: mail, timeout: 50, ...once })
        await portfire.serve({
          queues: { default: 5 },
          handlers: [
            Slow.handler((_, { signal }) =>
              new Promise((resolve) => {
                signal.addEventListener("abort", () => resolve({ to: "too late" }))
              })
            ),
          ],
        })
        const error = await rejection(portfire.execute(Slow))
        assert.ok(error instanceof JobFailed)
        assert.deepEqual(error.record.attempts.map(({ ending }) => ending), ["timedOut"])
      }),
  )

  promised(
    "has its signal aborted when its server stops, after the grace period",
    () =>
      withClient(server, async (portfire) => {
        const Long = job("long", once)
        const started = gate()
        const aborted = gate()
        const { onEvent } = watch()
        const running = await portfire.serve({
          queues: { default: 5 },
          gracePeriod: 0,
          onEvent,
          handlers: [Long.handler(async (_, { signal }) => {
            signal.addEventListener("abort", () => aborted.resolve())
            started.resolve()
            await new Promise(() => {})
          })],
        })
        const id = await portfire.enqueue(Long)
        await started.promise
        assert.equal(running.running(), 1)
        const exited = running.awaitExit()
        await Promise.all([running.stop(), running.stop(), aborted.promise, exited])
        assert.equal((await portfire.get(id)).state, "enqueued")
        assert.deepEqual(await portfire.servers(), [])
        await portfire.serve({ queues: { default: 5 }, handlers: [Long.handler(() => {})] })
        await portfire.await(Long, id)
      }),
  )

  promised(
    "finishes within the grace period when its server stops",
    () =>
      withClient(server, async (portfire) => {
        const Long = job("long", once)
        const started = gate()
        const finish = gate()
        const { onEvent, until } = watch()
        const running = await portfire.serve({
          queues: { default: 5 },
          onEvent,
          handlers: [Long.handler(async () => {
            started.resolve()
            await finish.promise
          })],
        })
        const id = await portfire.enqueue(Long)
        await started.promise
        const stopped = running.stop()
        await until((event): event is Event => event._tag === "DrainStarted")
        finish.resolve()
        await stopped
        assert.equal((await portfire.get(id)).state, "succeeded")
      }),
  )

  promised("is wrapped by middleware that is async functions too", () =>
    withClient(
      server,
      async (portfire) => {
        const Work = job("work", { payload: mail, success: mail, ...once })
        await portfire.serve({
          queues: { default: 5 },
          handlers: [Work.handler(({ to }, { context }) => {
            if (to === "crash") throw new Error("crashed")
            return { to: `${to} of ${context["tenant"]}` }
          })],
        })
        assert.deepEqual(await portfire.execute(Work, { to: "ada" }), { to: "<ada of acme>" })
        assert.ok(await rejection(portfire.enqueue(Work, { to: "spam" })) instanceof EnqueueVetoed)
        const cancelled = await rejection(portfire.execute(Work, { to: "stop" }))
        assert.ok(cancelled instanceof JobCancelled)
        assert.equal(cancelled.reason, "not today")
        const failed = await rejection(portfire.execute(Work, { to: "crash" }))
        assert.ok(failed instanceof JobFailed)
        assert.equal(failed.record.attempts[0]?.ending, "failed")
      },
      {
        middleware: [middleware("tenants", {
          enqueue: async (request, next) => {
            if ((request.payload as { to: string }).to === "spam") veto("no spam")
            return await next({ ...request, context: { tenant: "acme" } })
          },
          attempt: async ({ payload }, next) => {
            if ((payload as { to: string }).to === "stop") veto("not today")
            const { to } = await next() as { to: string }
            return { to: `<${to}>` }
          },
        })],
      },
    ))

  promised(
    "doesn't begin any more when middleware goes on only after the time limit",
    () =>
      withClient(server, async (portfire) => {
        let begun = false
        const ended = gate()
        const late = gate<unknown>()
        const Slow = job("slow", {
          timeout: 50,
          middleware: [middleware("slow", {
            attempt: async (_, next) => {
              await ended.promise
              late.resolve(await rejection(next()))
            },
          })],
          ...once,
        })
        await portfire.serve({
          queues: { default: 5 },
          handlers: [Slow.handler(() => {
            begun = true
          })],
        })
        const error = await rejection(portfire.execute(Slow))
        assert.ok(error instanceof JobFailed)
        ended.resolve()
        assert.equal((await late.promise as Error).name, "AbortError")
        assert.equal(begun, false)
      }),
  )

  promised(
    "gets payloads of older versions through async migrations",
    () =>
      withClient(server, async (portfire) => {
        const Old = job("user", { payload: numeric, ...once })
        const New = job("user", {
          payload: mail,
          success: mail,
          version: 3,
          migrations: {
            1: async (number) => await Promise.resolve(`user ${number}`),
            2: (to) => ({ to }),
          },
          ...once,
        })
        const id = await portfire.enqueue(Old, "7")
        await portfire.serve({
          queues: { default: 5 },
          handlers: [New.handler((payload) => payload)],
        })
        assert.deepEqual(await portfire.await(New, id), { to: "user 7" })
      }),
  )
})
