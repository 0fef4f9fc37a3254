/**
 * Entries that are changed in the moment in which they are due: NATS may fire a schedule that has just
 * been replaced, so the change and the alarm meet in any order. `PORTFIRE_RACES=1000` says how many
 * changes; default 192.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import assert from "node:assert/strict"
import process from "node:process"
import { describe } from "node:test"
import { type Client, Job, type JobRecord, Recurring } from "../../mod.ts"
import * as EntryId from "../../src/core/EntryId.ts"
import { produce, serve, subjectsIn } from "../actors/harness.ts"
import { effect, eventually, freshNamespace, testServer } from "../harness.ts"
import { Random } from "../model/Random.ts"

const seed = Number(process.env["PORTFIRE_SEED"] ?? Date.now() % 1_000_000)
const entries = 64
const rounds = Math.ceil(Number(process.env["PORTFIRE_RACES"] ?? 192) / entries)
const period = 1_000

/** The run says which declaration it is of. */
const Tick = Job.make("tick", { payload: Schema.Number, success: Schema.Number })

/** What somebody does to an entry. */
type Change = "upsert" | "pause" | "trigger" | "remove"

/** What is done at once, each by a client of its own. */
const together: ReadonlyArray<ReadonlyArray<Change>> = [
  ["upsert"],
  ["pause"],
  ["trigger"],
  ["remove"],
  ["trigger", "trigger", "upsert"],
  ["pause", "upsert", "trigger"],
  ["pause", "pause", "upsert"],
]

describe("An entry that is changed as it fires", () => {
  const nats = testServer()

  effect(
    "makes the runs of the old plan or of the new one, each once, and none after the change",
    () =>
      Effect.gen(function* () {
        const random = new Random(seed)
        const namespace = freshNamespace()
        const starts = new Map<string, number>()
        const live = Tick.toLayer((version) =>
          Effect.map(Job.current, ({ id }) => {
            starts.set(id, (starts.get(id) ?? 0) + 1)
            return version
          })
        )
        const servers = [
          yield* serve(nats.layer(namespace), live),
          yield* serve(nats.layer(namespace), live),
        ]
        const clients = yield* Effect.forEach(
          [0, 1, 2],
          () => produce(nats.layer(namespace)),
        )
        const [first] = clients
        assert.ok(first)
        const by = (index: number) => <A, E>(act: Effect.Effect<A, E, Client.Client>) =>
          (clients[index % clients.length] ?? first).provide(act)
        const declare = (entry: number, version: number) =>
          Recurring.upsert(`entry ${entry}`, {
            job: Tick,
            payload: version,
            schedule: { every: period, offset: Math.floor(entry * period / entries) },
            misfire: "all",
          })
        const found = (id: string): Effect.Effect<JobRecord.JobRecord | undefined, unknown> =>
          Effect.catchTag(first.client.get(id), "JobNotFound", () => Effect.succeed(undefined))
        const sleepUntil = (instant: number) => Effect.sleep(Math.max(0, instant - Date.now()))
        const counts = { before: 0, after: 0 }

        /** What must hold of the job of a nominal time, or of one that was asked for, in the end. */
        const promises: Array<readonly [id: string, of: string, version: number | "none" | "any"]> =
          []
        let version = 0

        const race = Effect.fnUntraced(function* (entry: number, changes: ReadonlyArray<Change>) {
          const name = `entry ${entry}`
          const { next } = yield* by(0)(Recurring.get(name))
          assert.ok(next, `${name} goes on`)
          const due = next.getTime()
          const id = EntryId.runId(name, due)
          const declared = ++version
          const what = `${name}, ${new Date(due).toISOString()}, ${changes}`
          yield* sleepUntil(due)
          yield* Effect.forEach(changes, (change, index) =>
            Effect.gen(function* () {
              yield* Effect.sleep(random.between(0, 12))
              switch (change) {
                case "upsert":
                  return yield* by(index)(declare(entry, declared))
                case "pause":
                  return yield* by(index)(Recurring.pause(name))
                case "trigger":
                  promises.push([yield* by(index)(Recurring.trigger(name)), what, "any"])
                  return
                case "remove":
                  assert.equal(yield* by(index)(Recurring.remove(name)), true)
              }
            }), { concurrency: "unbounded", discard: true })
          const run = yield* found(id)
          counts[run === undefined ? "before" : "after"]++
          const isStill = changes.includes("pause") || changes.includes("remove")
          if (isStill) promises.push([id, what, run === undefined ? "none" : "any"])
          else if (run !== undefined || !changes.includes("upsert")) {
            promises.push([id, what, "any"])
          } else promises.push([id, what, declared])
          const now = changes.includes("pause") ? yield* by(1)(Recurring.get(name)) : undefined
          yield* sleepUntil(due + period / 2)
          if (now === undefined && isStill) yield* by(0)(declare(entry, declared))
          else if (now !== undefined) {
            const later = yield* by(1)(Recurring.resume(name))
            assert.equal(later.runs, now.runs, `${what}: it stood still`)
          }
          // Nothing that was promised is removed with the entry.
          const mine = promises.filter(([, of, expected]) => of === what && expected !== "none")
          for (const [id] of mine) yield* eventually(found(id), (run) => run !== undefined)
        })

        yield* Effect.forEach(
          Array.from({ length: entries }, (_, entry) => entry),
          Effect.fnUntraced(function* (entry) {
            yield* by(entry)(declare(entry, 0))
            for (let round = 0; round < rounds; round++) yield* race(entry, random.pick(together))
            yield* by(entry)(Recurring.remove(`entry ${entry}`))
          }),
          { concurrency: "unbounded", discard: true },
        )

        const left = /\.(ready\.default|later|retry)\./
        yield* eventually(
          subjectsIn(first.nats),
          (subjects) => !subjects.some((subject) => left.test(subject)),
        )
        for (const [id, of, expected] of promises) {
          const run = yield* found(id)
          if (expected === "none") assert.equal(run, undefined, `${of}: run after the change`)
          else {
            assert.equal(run?.state, "succeeded", `${of}: ${id}`)
            if (expected !== "any") assert.equal(run?.result, expected, `${of}: old version`)
          }
        }
        const ids = (yield* subjectsIn(first.nats, "succeeded.>")).map((s) => s.split(".").at(-1))
        assert.equal(new Set(ids).size, ids.length)
        for (const id of ids) assert.equal(starts.get(id ?? ""), 1, `${id} started once`)
        assert.equal(starts.size, ids.length)
        assert.ok(counts.before > 0 && counts.after > 0, JSON.stringify(counts))
        console.log(
          `seed ${seed}: ${entries * rounds} changes, ${counts.before} before the run was made, ` +
            `${counts.after} after it; ${ids.length} runs`,
        )
        yield* Effect.forEach(servers, ({ stop }) => stop, { concurrency: 2 })
      }),
    { timeout: 60_000 + rounds * 2_000 },
  )
})
