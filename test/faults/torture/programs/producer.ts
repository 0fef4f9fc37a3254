/**
 * A producer of the torture in a process of its own: it stores jobs of all kinds and operates on them
 * until SIGTERM. What is acknowledged goes to the ledger. SEED says what it does.
 */
import "./wrongClock.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import process from "node:process"
import { Batch, Client, Flow, type Job, Operation } from "../../../../mod.ts"
import * as Priority from "../../../../src/core/Priority.ts"
import { Random } from "../../../model/Random.ts"
import { Element, List, Once, queues, type Step, Sum, Work } from "../jobs.ts"
import { writer } from "../Ledger.ts"
import { env, nats, settings } from "./env.ts"

const note = writer(env("LEDGER"))

/** Jobs that operations and continuations choose from, the newest ones. */
const known: Array<string> = []
const remember = (id: string, kind: string, ...more: ReadonlyArray<string | number>) => {
  note("acked", id, kind, ...more)
  known.push(id)
  if (known.length > 200) known.shift()
}

const weights = {
  plain: 20,
  delayed: 8,
  many: 3,
  after: 8,
  batch: 4,
  once: 6,
  flow: 2,
  execute: 1,
  cancel: 3,
  requeue: 4,
  runNow: 2,
  reschedule: 2,
  move: 3,
}

const payload = (random: Random) => ({
  steps: Array.from(
    { length: random.between(1, 3) },
    () => random.weighted<Step>({ succeed: 6, fail: 2, crash: 1 }),
  ),
  millis: random.chance(0.05) ? random.between(500, 3_000) : random.between(0, 60),
})

const options = (random: Random) => ({
  queue: random.pick(queues),
  priority: random.pick(Priority.all),
})

const operation = (random: Random, what: string): Operation.Operation => {
  switch (what) {
    case "cancel":
      return Operation.cancel()
    case "requeue":
      return Operation.requeue({ revive: random.chance(0.5) })
    case "runNow":
      return Operation.runNow()
    case "reschedule":
      return Operation.reschedule({ delay: random.between(100, 2_000) })
    default:
      return Operation.move({ queue: random.pick(queues), priority: random.pick(Priority.all) })
  }
}

const fill =
  (random: Random, members: Array<string>) =>
  (batch: Batch.Builder): Effect.Effect<void, Batch.BatchError> =>
    Effect.gen(function* () {
      for (let left = random.between(1, 5); left > 0; left--) {
        const last = members.at(-1)
        members.push(
          last !== undefined && random.chance(0.3)
            ? yield* batch.addAfter(last, Work, payload(random), { on: "any" })
            : yield* batch.add(Work, payload(random), options(random)),
        )
      }
    })

const act = (random: Random): Effect.Effect<void, unknown, Client.Client> =>
  Effect.gen(function* () {
    const what = known.length === 0 ? "plain" : random.weighted(weights)
    switch (what) {
      case "plain":
        return remember(yield* Work.enqueue(payload(random), options(random)), what)
      case "delayed": {
        const delay = random.between(50, 4_000)
        return remember(
          yield* Work.schedule(payload(random), { ...options(random), delay }),
          what,
        )
      }
      case "many": {
        const payloads = Array.from({ length: random.between(5, 40) }, () => payload(random))
        const atomic = random.chance(0.3)
        for (const id of yield* Work.enqueueMany(payloads, { atomic })) remember(id, what)
        return
      }
      case "after": {
        const parents = [random.pick(known), ...random.chance(0.3) ? [random.pick(known)] : []]
        const following: Job.Following = random.chance(0.8) ? { on: "any" } : {}
        return remember(
          yield* Work.enqueueAfter([...new Set(parents)], payload(random), {
            ...options(random),
            ...following,
          }),
          what,
        )
      }
      case "batch": {
        const members: Array<string> = []
        const id = yield* Batch.create({}, fill(random, members))
        remember(id, what, members.length)
        for (const member of members) remember(member, "member", id)
        return
      }
      case "once": {
        const key = `key${random.between(0, 9)}`
        const told = yield* Once.submit({ key, millis: random.between(20, 400) })
        note("held", told.id, key, String(told.created))
        return remember(told.id, what, key)
      }
      case "flow": {
        const count = random.between(0, 6)
        const flow = Flow.job(List, count).pipe(Flow.forEach(Element), Flow.andThen(Sum))
        const { batch, result } = yield* Flow.enqueue(flow)
        return note("acked", batch, what, result, count * (count + 1) / 2)
      }
      case "execute": {
        const n = random.between(0, 9)
        const got = yield* Element.execute(n, { within: "60 seconds" })
        if (got !== n + 1) note("problem", "-", `execute_gave_${got}_for_${n}`)
        return
      }
      default: {
        const id = random.pick(known)
        const client = yield* Client.Client
        const answer = yield* client.operate(id, operation(random, what))
        return note("operated", id, what, answer._tag)
      }
    }
  })

/** What a call may fail with while NATS is being hurt. */
const allowed: ReadonlySet<string> = new Set([
  "Unavailable",
  "Rejected",
  "BatchClosed",
  "AwaitTimedOut",
  "PartlyEnqueued",
])

let stopping = false
process.on("SIGTERM", () => stopping = true)

const pause = Number(env("PAUSE"))

const lane = (random: Random) =>
  Effect.gen(function* () {
    while (!stopping) {
      yield* Effect.catch(act(random), (error) =>
        Effect.sync(() => {
          const { message, name, stored } = error as Error & {
            readonly stored?: ReadonlyArray<string>
          }
          const what = allowed.has(name) ? "refused" : "problem"
          note(what, "-", name, message.replaceAll(/\s+/g, "_"))
          for (const id of stored ?? []) remember(id, "many")
        }))
      yield* Effect.sleep(random.between(0, 2 * pause))
    }
  })

const program = Effect.gen(function* () {
  note("ready", "-")
  console.log("ready")
  const random = new Random(Number(env("SEED")))
  const lanes = Array.from({ length: Number(env("LANES")) }, () => lane(random.fork()))
  yield* Effect.all(lanes, { concurrency: "unbounded" })
})

const live = Client.layer.pipe(Layer.provide(nats), Layer.provide(settings))

await Effect.runPromise(Effect.scoped(Effect.provide(program, live)))
process.exit(0)
