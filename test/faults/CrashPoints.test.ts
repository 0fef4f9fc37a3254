/**
 * Every operation, killed after each of its writes. In one process, "killed" is a connection that dies
 * with a write, which is all that anybody else can see of a killed process; a few points are hit by
 * SIGKILL in a process of its own. Of several writes of one name the first is taken, with
 * CRASH_POINTS=all every one.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import process from "node:process"
import { describe } from "node:test"
import { effect, testServer } from "../harness.ts"
import { compare } from "./crashTable.ts"
import { type CrashWorld, crashWorld } from "./crashWorld.ts"
import type { DyingOptions } from "./dying.ts"
import { type Killed, killed } from "./programs/crashOperations.ts"
import { type Work, works } from "./programs/crashServers.ts"

const mode = process.env["CRASH_POINTS"] ?? ""
const only = new RegExp(process.env["ONLY"] ?? "")
/** Operations at once, and points of each. */
const [operationsAtOnce, pointsAtOnce] = [4, 8]

/** Has somebody killed, or not. */
type Kill = (
  options: DyingOptions,
) => Effect.Effect<{ readonly writes: ReadonlyArray<string>; readonly took: number }, unknown>

/** Points that a process is killed at, in a process of its own. */
const inProcesses: ReadonlyArray<readonly [operation: string, after: string]> = [
  ["cancel awaiting", "_finish enqueued"],
  ["requeue failed", "parent enqueued"],
  ["continue three", "child awaiting, staged"],
  ["create batch", "batch releasing"],
  ["end a parent", "parent succeeded"],
  ["end the last member", "acknowledgement"],
  ["trigger an entry", "entry due"],
  ["make runs of an entry", "first part of a write of two: job enqueued"],
  ["make runs of an entry", "entry waits"],
]

describe("A process that is killed between two writes", () => {
  const nats = testServer()

  /** Has a client killed by `kill`. */
  const clientKilled = <A>(
    { copies = false, removes = [], setup }: Killed,
    kill: (
      world: CrashWorld,
      ids: Readonly<Record<string, string>>,
    ) => Effect.Effect<A, unknown, Scope.Scope>,
  ) =>
    Effect.scoped(Effect.gen(function* () {
      const world = yield* crashWorld(nats)
      yield* world.serve
      const ids = yield* world.provide(setup("key"))
      yield* world.mend
      const done = yield* kill(world, ids)
      yield* world.openGates
      const took = yield* world.settled(Object.values(ids), {
        anyRuns: copies,
        removed: removes.map((one) => ids[one] ?? ""),
      })
      return { ...done, took }
    }))

  /** Has the first server of a world killed by `kill`; another one takes over. */
  const serverKilled = <A>(
    work: Work,
    kill: (
      world: CrashWorld,
      settled: Effect.Effect<number, unknown>,
    ) => Effect.Effect<A, unknown, Scope.Scope>,
  ) =>
    Effect.scoped(Effect.gen(function* () {
      const world = yield* crashWorld(nats)
      const ids = yield* work(world)
      yield* world.openGates
      const settled = world.settled(Object.values(ids), { anyRuns: true })
      const done = yield* kill(world, settled)
      yield* world.serve
      return { ...done, took: yield* settled }
    }))

  const clientPoint = (operation: Killed): Kill => (options) =>
    clientKilled(
      operation,
      (world, ids) => world.runUntilKilled(operation.act(ids, "key"), options),
    )
  const serverPoint = (work: Work): Kill => (options) =>
    serverKilled(work, (world, settled) => world.serveUntilKilled(options, settled))

  /** Has it killed at each of its points; gives the names of the writes after which it was. */
  const round = Effect.fnUntraced(function* (name: string, kill: Kill, isServer: boolean) {
    const whole = yield* kill({})
    const points: Array<DyingOptions> = mode === ""
      ? [...new Set(whole.writes)].map((write) => ({ after: (one) => one === write }))
      : whole.writes.map((_, index) => ({ writes: index + 1 }))
    // What a server was given it must have given back.
    if (isServer) points.unshift({ writes: 0 })
    return yield* Effect.forEach(points, (point, index) =>
      Effect.matchCause(kill(point), {
        onSuccess: ({ writes }) => writes.at(-1) ?? "nothing",
        onFailure: (cause) => assert.fail(`${name}, point ${index} of ${whole.writes}: ${cause}`),
      }), { concurrency: pointsAtOnce })
  })

  /** Holds the names against the page. Where somebody was faster once, it is tried again. */
  const matrix = Effect.fnUntraced(function* (name: string, kill: Kill, isServer: boolean) {
    const hit = new Set<string>()
    let unseen: ReadonlyArray<string> = []
    for (let rounds = 0; rounds < 8; rounds++) {
      for (const one of yield* round(name, kill, isServer)) hit.add(one)
      unseen = compare(name, hit, isServer)
      if (unseen.length === 0) return
    }
    assert.deepEqual(unseen, [], `${name}: documented, and never hit`)
  })

  const matrices = (what: string, operations: RegExp, isServer: boolean) =>
    effect(what, () =>
      Effect.forEach(
        Object.keys(isServer ? works : killed)
          .filter((name) => operations.test(name) && only.test(name)),
        (name) =>
          matrix(
            name,
            isServer ? serverPoint(works[name] as Work) : clientPoint(killed[name] as Killed),
            isServer,
          ),
        { concurrency: operationsAtOnce, discard: true },
      ), { timeout: 120_000 })

  matrices("leaves a recurring entry that goes on", /entr/, false)
  matrices("leaves a cancel that heals", /^cancel/, false)
  matrices("leaves a requeue that heals", /^requeue/, false)
  matrices("leaves a job that was moved or removed", /^(run|reschedule|move|remove$)/, false)
  matrices("leaves a continuation that heals", /^continue/, false)
  matrices("leaves a batch, or nothing of it", /^(create|attach)/, false)
  matrices("leaves one unique job", /unique/, false)
  matrices("leaves what another server finishes", /./, true)

  const inProcess = ([name, after]: readonly [string, string]) => {
    const operation = killed[name]
    return Effect.asVoid(
      operation === undefined
        ? serverKilled(works[name] as Work, (world) => world.kill({ AFTER: after }))
        : clientKilled(operation, (world, ids) =>
          world.kill({
            OPERATION: name,
            IDS: JSON.stringify(ids),
            KEY: "key",
            AFTER: after,
          })),
    )
  }

  effect(
    "leaves the same when it is a process and the signal is SIGKILL",
    () => Effect.forEach(inProcesses, inProcess, { concurrency: 3, discard: true }),
    { timeout: 60_000 },
  )
})
