/**
 * The operations that are killed between any two of their writes. What one is prepared with goes as
 * ids from process to process; what it does is in `act`.
 */
import * as Effect from "effect/Effect"
import { Batch, Client, Operation, Recurring } from "../../../mod.ts"
import { eventually } from "../../harness.ts"
import { Child, Grandchild, Member, Parent, Plain } from "./crashJobs.ts"

/** Ids of the jobs that an operation is about, by what they are to it. */
export type Ids = Readonly<Record<string, string>>

type Program<A> = Effect.Effect<A, unknown, Client.Client>

/** An operation of a client. */
export interface Killed {
  /** What is prepared by somebody else. */
  readonly setup: (key: string) => Program<Ids>
  /** What is done by who is killed. */
  readonly act: (ids: Ids, key: string) => Program<unknown>
  /** Of what was prepared, what needn't be there in the end. */
  readonly removes?: ReadonlyArray<string>
  /** The superseded message of a job that is ready may stay: it may run twice, once in vain. */
  readonly copies?: boolean
  /** It is about all jobs of a world, so that it needs one for itself. */
  readonly alone?: boolean
}

const hour = "1 hour"
const soon = "3 seconds"

const until = (id: string, state: string) =>
  Effect.flatMap(
    Client.Client,
    (client) => eventually(client.get(id), (record) => record.state === state),
  )
const operate = (id: string | undefined, operation: Operation.Operation) =>
  Effect.flatMap(Client.Client, (client) => client.operate(id ?? "", operation))
const where = (...args: Parameters<Client.Client["operateWhere"]>) =>
  Effect.flatMap(Client.Client, (client) => client.operateWhere(...args))
const idOf = (ids: Ids, name: string): string => ids[name] ?? ""

/** A job that waits behind another one. */
const waiting = Plain.enqueue({}, { queue: "narrow" })
const scheduled = Plain.schedule({}, { delay: soon })
const retrying = Effect.tap(Plain.enqueue({ retries: true }), (id) => until(id, "retrying"))
const processing = Effect.tap(Plain.enqueue({ gated: true }), (id) => until(id, "processing"))
const broken = Effect.tap(Parent.enqueue({ breaks: true }), (id) => until(id, "failed"))
const succeeded = Effect.tap(Parent.enqueue({}), (id) => until(id, "succeeded"))
const gatedParent = Parent.enqueue({ gated: true })
const job = (made: Program<string>): Program<Ids> => Effect.map(made, (job) => ({ job }))

/** With a job that follows however the other one ends. */
const followed = (made: Program<string>): Program<Ids> =>
  Effect.gen(function* () {
    const job = yield* made
    return { job, child: yield* Child.enqueueAfter(job, {}, { on: "any" }) }
  })

/** A parent that failed, with a child that was cancelled because of it and what follows that. */
const failedChain: Program<Ids> = Effect.gen(function* () {
  const parent = yield* Parent.enqueue({ breaks: true, gated: false }, { queue: "narrow" })
  const child = yield* Child.enqueueAfter(parent, {})
  const grandchild = yield* Grandchild.enqueueAfter(child, {})
  const none = yield* operate(parent, Operation.move({ queue: "default" }))
  if (none._tag !== "changed") return yield* Effect.die(none)
  yield* until(grandchild, "cancelled")
  return { parent, child, grandchild }
})

const openBatch: Program<Ids> = Effect.gen(function* () {
  const batch = yield* Batch.create({}, (b) => b.add(Member, { gated: true }))
  return { batch, child: yield* Child.enqueueAfter(batch, {}, { on: "any" }) }
})

const endedBatch: Program<Ids> = Effect.gen(function* () {
  let member = ""
  const batch = yield* Batch.create({}, (b) =>
    Effect.gen(function* () {
      member = yield* b.add(Member, { breaks: true })
      yield* b.add(Member, {})
    }))
  const child = yield* Child.enqueueAfter(batch, {}, { on: "any" })
  yield* until(child, "succeeded")
  return { batch, member, child }
})

const nothing: Program<Ids> = Effect.succeed({})

/** Options of an entry that is due some ms from now, once each. */
export const entryDue = (...millis: ReadonlyArray<number>) => ({
  job: Plain,
  payload: {},
  schedule: { at: millis.map((after) => Date.now() + after) },
  misfire: "all" as const,
})
const upsert = (...millis: ReadonlyArray<number>) =>
  Effect.suspend(() => Recurring.upsert("entry", entryDue(...millis)))
const hourMillis = 3_600_000
const unique = (key: string) => ({ key })

/** All of them. */
export const killed: Readonly<Record<string, Killed>> = {
  "cancel enqueued": {
    setup: () => followed(waiting),
    act: ({ job }) => operate(job, Operation.cancel()),
  },
  "cancel scheduled": {
    setup: () => followed(scheduled),
    act: ({ job }) => operate(job, Operation.cancel()),
  },
  "cancel retrying": {
    setup: () => followed(retrying),
    act: ({ job }) => operate(job, Operation.cancel()),
  },
  "cancel awaiting": {
    setup: () =>
      Effect.gen(function* () {
        const parent = yield* gatedParent
        const child = yield* Child.enqueueAfter(parent, {})
        const grandchild = yield* Grandchild.enqueueAfter(child, {}, { on: "any" })
        return { parent, child, grandchild }
      }),
    act: ({ child }) => operate(child, Operation.cancel()),
  },
  "cancel processing": {
    copies: true,
    setup: () => followed(processing),
    act: ({ job }) => operate(job, Operation.cancel()),
  },
  "cancel unique": {
    setup: (key) => job(Plain.enqueue({}, { queue: "narrow", unique: unique(key) })),
    act: ({ job }) => operate(job, Operation.cancel()),
  },
  "cancel batch": {
    setup: () =>
      Effect.gen(function* () {
        let inside = ""
        const batch = yield* Batch.create({}, (b) =>
          Effect.gen(function* () {
            const first = yield* b.add(Member, { gated: true })
            inside = yield* b.addAfter(first, Member, {})
            yield* b.add(Member, {}, { queue: "narrow" })
            yield* b.add(Member, {}, { delay: soon })
          }))
        const child = yield* Child.enqueueAfter(batch, {}, { on: "any" })
        const grandchild = yield* Grandchild.enqueueAfter(inside, {}, { on: "any" })
        return { batch, child, grandchild }
      }),
    act: ({ batch }) => operate(batch, Operation.cancel()),
  },
  "requeue failed": {
    setup: () => job(broken),
    act: ({ job }) => operate(job, Operation.requeue()),
  },
  "requeue and revive": {
    setup: () => failedChain,
    act: ({ parent }) => operate(parent, Operation.requeue({ revive: true })),
  },
  "requeue unique": {
    setup: (key) =>
      job(Effect.tap(
        Plain.enqueue({ breaks: true }, { unique: unique(key) }),
        (id) => until(id, "failed"),
      )),
    act: ({ job }) => operate(job, Operation.requeue()),
  },
  "requeue member": {
    setup: () => endedBatch,
    act: ({ member }) => operate(member, Operation.requeue()),
  },
  "run now": {
    setup: () => job(scheduled),
    act: ({ job }) => operate(job, Operation.runNow()),
  },
  "run now retrying": {
    setup: () => job(retrying),
    act: ({ job }) => operate(job, Operation.runNow()),
  },
  "reschedule": {
    setup: () => job(scheduled),
    act: ({ job }) => operate(job, Operation.reschedule({ delay: "1 second" })),
  },
  "reschedule enqueued": {
    copies: true,
    setup: () => job(waiting),
    act: ({ job }) => operate(job, Operation.reschedule({ delay: "1 second" })),
  },
  "move enqueued": {
    copies: true,
    setup: () => job(waiting),
    act: ({ job }) => operate(job, Operation.move({ queue: "default" })),
  },
  "move scheduled": {
    setup: () => job(scheduled),
    act: ({ job }) => operate(job, Operation.move({ queue: "other" })),
  },
  "move awaiting": {
    setup: () =>
      Effect.gen(function* () {
        const parent = yield* gatedParent
        return { parent, child: yield* Child.enqueueAfter(parent, {}) }
      }),
    act: ({ child }) => operate(child, Operation.move({ queue: "other" })),
  },
  "remove": {
    setup: () => job(succeeded),
    act: ({ job }) => operate(job, Operation.remove()),
    removes: ["job"],
  },
  "continue one": {
    setup: () => Effect.map(gatedParent, (parent) => ({ parent })),
    act: (ids) => Child.enqueueAfter(idOf(ids, "parent"), {}),
  },
  "continue three": {
    setup: () =>
      Effect.map(
        Effect.all([gatedParent, gatedParent, gatedParent]),
        ([a, b, c]) => ({ a, b, c }),
      ),
    act: (ids) => Child.enqueueAfter(Object.values(ids), {}),
  },
  "continue ended": {
    setup: () => Effect.map(Effect.all([succeeded, gatedParent]), ([a, b]) => ({ a, b })),
    act: (ids) => Child.enqueueAfter(Object.values(ids), {}),
  },
  "continue nothing": {
    setup: () => nothing,
    act: () => Effect.exit(Child.enqueueAfter("01J9ZQ6Y3NM2D4V8T7K5R0B1C0", {})),
  },
  "create batch": {
    setup: () => nothing,
    act: () =>
      Batch.create({}, (b) =>
        Effect.gen(function* () {
          const first = yield* b.add(Member, {})
          yield* b.add(Member, {}, { delay: "1 second" })
          yield* b.addAfter(first, Member, {})
        })),
  },
  "create nested batch": {
    setup: () => nothing,
    act: () =>
      Batch.create({}, (b) =>
        Effect.gen(function* () {
          yield* b.add(Member, {})
          yield* b.addBatch({}, (inner) => inner.add(Member, {}))
        })),
  },
  "create batch of cancelled": {
    setup: () => Effect.map(broken, (parent) => ({ parent })),
    act: (ids) =>
      Batch.create({}, (b) =>
        Effect.gen(function* () {
          const member = yield* b.addAfter(idOf(ids, "parent"), Member, {})
          yield* b.addAfter(member, Member, {}, { on: "cancelled" })
        })),
  },
  "create empty batch": {
    setup: () => nothing,
    act: () => Batch.create({}, () => Effect.void),
  },
  "create batch and fail": {
    setup: () => nothing,
    act: () =>
      Effect.exit(
        Batch.create({}, (b) => Effect.andThen(b.add(Member, {}), Effect.fail("no"))),
      ),
  },
  "attach to open batch": {
    setup: () => openBatch,
    act: (ids) => Batch.attach(idOf(ids, "batch"), (b) => b.add(Member, {})),
  },
  "attach to ended batch": {
    setup: () => endedBatch,
    act: (ids) => Batch.attach(idOf(ids, "batch"), (b) => b.add(Member, {})),
  },
  "attach and fail": {
    setup: () => openBatch,
    act: (ids) =>
      Effect.exit(Batch.attach(
        idOf(ids, "batch"),
        (b) => Effect.andThen(b.add(Member, {}), Effect.fail("no")),
      )),
  },
  "enqueue unique": {
    setup: () => nothing,
    act: (_, key) => Plain.enqueue({}, { unique: unique(key) }),
  },
  "enqueue unique for a time": {
    setup: () => nothing,
    act: (_, key) => Plain.enqueue({}, { unique: { key, until: hour } }),
  },
  "replace unique": {
    copies: true,
    setup: (key) => job(Plain.enqueue({}, { queue: "narrow", unique: unique(key) })),
    act: (_, key) => Plain.enqueue({}, { unique: { key, onConflict: "replace" } }),
  },
  "upsert an entry": {
    setup: () => nothing,
    act: () => upsert(700, 1_200),
  },
  "upsert a changed entry": {
    setup: () => Effect.as(upsert(hourMillis), {}),
    act: () => upsert(700, 1_200),
  },
  "pause an entry": {
    setup: () => Effect.as(upsert(800), {}),
    act: () => Recurring.pause("entry"),
  },
  "resume an entry": {
    setup: () => Effect.as(Effect.andThen(upsert(2_000), Recurring.pause("entry")), {}),
    act: () => Recurring.resume("entry"),
  },
  "trigger an entry": {
    setup: () => Effect.as(upsert(2_000), {}),
    act: () => Recurring.trigger("entry"),
  },
  "trigger an entry that is due": {
    setup: () => Effect.as(upsert(400), {}),
    act: () => Effect.andThen(Effect.sleep("400 millis"), Recurring.trigger("entry")),
  },
  "remove an entry": {
    setup: () => Effect.as(upsert(hourMillis), {}),
    act: () => Recurring.remove("entry"),
  },
  "sync entries": {
    setup: () => Effect.as(Recurring.sync([Recurring.define("entry", entryDue(1_500))]), {}),
    act: () =>
      Effect.suspend(() =>
        Recurring.sync([Recurring.define("other entry", entryDue(700, 1_200))], {
          removeOthers: true,
        })
      ),
  },
  "cancel by filter": {
    alone: true,
    setup: () =>
      Effect.gen(function* () {
        const ids: Record<string, string> = {}
        for (const made of [waiting, scheduled, retrying]) {
          const { child = "", job = "" } = yield* followed(made)
          ids[job] = job
          ids[child] = child
        }
        return ids
      }),
    act: () => where({ name: "job" }, Operation.cancel()),
  },
  "requeue by filter": {
    alone: true,
    setup: () => Effect.map(Effect.all([broken, broken]), ([a, b]) => ({ a, b })),
    act: () => where({ state: "failed" }, Operation.requeue()),
  },
}
