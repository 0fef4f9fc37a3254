/** What a server does that is killed between any two of its writes. */
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { Batch, Client, Operation, Recurring } from "../../../mod.ts"
import type { CrashWorld } from "../crashWorld.ts"
import { Child, Grandchild, Member, Parent, Plain, type Told } from "./crashJobs.ts"
import { entryDue, type Ids, killed } from "./crashOperations.ts"

/** Work that lies in a world before its first server starts. */
export type Work = (world: CrashWorld) => Effect.Effect<Ids, unknown>

type Program<A> = Effect.Effect<A, unknown, Client.Client>

const work = (made: Program<Ids>): Work => ({ provide }) => provide(made)
const one = (made: Program<string>): Work => work(Effect.map(made, (job) => ({ job })))

/** What a client leaves behind that is killed after a write of one of these names. */
const leftBy = (
  setup: Program<Ids>,
  act: (ids: Ids) => Program<unknown>,
  ...names: ReadonlyArray<string>
): Work =>
  Effect.fnUntraced(function* ({ provide, runUntilKilled }) {
    const ids = yield* provide(setup)
    const { isDying, writes } = yield* runUntilKilled(act(ids), {
      after: (name) => names.includes(name),
    })
    assert.ok(isDying(), `none of ${names} in ${writes.join(", ")}`)
    return ids
  })

const later = Plain.schedule({}, { delay: "1 second" })

/** What is left of an operation that needs no server to be prepared. */
const leftOf = (name: string, after: string): Work => {
  const { act, setup } = killed[name] as typeof killed[string]
  return leftBy(setup(""), (ids) => act(ids, ""), after)
}

/** As before, of one that needs a server. */
const leftOfServed = (name: string, after: string): Work => (world) =>
  Effect.gen(function* () {
    const { act, setup } = killed[name] as typeof killed[string]
    const ids = yield* Effect.scoped(Effect.andThen(world.serve, world.provide(setup(""))))
    yield* world.mend
    return yield* leftBy(Effect.succeed(ids), (ids) => act(ids, ""), after)(world)
  })

/** An entry that is due some ms from now, once each. */
const entry = (
  millis: ReadonlyArray<number>,
  options: Pick<Recurring.EntryOptions, "jitter" | "overlap"> & { readonly payload?: Told } = {},
): Work =>
  work(
    Effect.suspend(() =>
      Effect.as(Recurring.upsert("entry", { ...entryDue(...millis), ...options }), {})
    ),
  )
const slow = { slow: true }

/** All of it. */
export const works: Readonly<Record<string, Work>> = {
  "end a job": one(Plain.enqueue({})),
  "end a unique job": one(Plain.enqueue({}, { unique: { key: "key" } })),
  "retry a job": one(Plain.enqueue({ retries: true })),
  "end a parent": work(Effect.gen(function* () {
    const parent = yield* Parent.enqueue({})
    const child = yield* Child.enqueueAfter(parent, {})
    const other = yield* Child.enqueueAfter(parent, {}, { on: "failed" })
    const grandchild = yield* Grandchild.enqueueAfter(other, {}, { on: "any" })
    return { parent, child, other, grandchild }
  })),
  "end the last member": work(Effect.gen(function* () {
    const batch = yield* Batch.create({}, (b) => b.add(Member, {}))
    return { batch, child: yield* Child.enqueueAfter(batch, {}) }
  })),
  "finish a cancel": leftOf("cancel scheduled", "_finish enqueued"),
  "finish the cancel of a batch": leftBy(
    Effect.gen(function* () {
      const batch = yield* Batch.create({}, (b) =>
        Effect.gen(function* () {
          const first = yield* b.add(Member, {})
          yield* b.addAfter(first, Member, {})
        }))
      return { batch, child: yield* Child.enqueueAfter(batch, {}, { on: "any" }) }
    }),
    ({ batch = "" }) =>
      Effect.flatMap(Client.Client, (client) => client.operate(batch, Operation.cancel())),
    // Alone, where its alarm has just fired.
    "batch cancelled",
    "_finish enqueued",
  ),
  "revive what followed": leftOfServed("requeue and revive", "_revive enqueued"),
  "link for who died": leftBy(
    Effect.map(Effect.all([later, later]), ([a, b]) => ({ a, b })),
    (ids) => Child.enqueueAfter(Object.values(ids), {}),
    "child awaiting, staged",
  ),
  "give a batch up": leftOf("create nested batch", "nested batch building"),
  "release a batch": leftOf("create batch", "batch releasing"),
  "make runs of an entry": entry([900, 1_200]),
  "make a run of an entry beside one": entry([900, 1_200], { overlap: "skip", payload: slow }),
  "make a run of an entry after one": entry([900, 1_200], { overlap: "queueOne", payload: slow }),
  "make runs of an entry with jitter": entry([900, 1_000], { jitter: "500 millis" }),
  "catch up with an entry": (world) =>
    Effect.andThen(entry([900, 910, 920])(world), Effect.as(Effect.sleep("1100 millis"), {})),
  "make a run of an entry by hand": leftOf("trigger an entry", "entry due"),
  "forget an entry": leftOf("remove an entry", "entry waits"),
  "run a cancel by filter": leftBy(
    Effect.gen(function* () {
      const job = yield* later
      const ready = yield* Plain.enqueue({})
      return { job, ready, child: yield* Child.enqueueAfter([job, ready], {}, { on: "any" }) }
    }),
    () =>
      Effect.flatMap(
        Client.Client,
        (client) => client.operateWhere({ name: "job" }, Operation.cancel()),
      ),
    "_where enqueued",
  ),
}
