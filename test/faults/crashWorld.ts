/** A world in which who does something is killed in the midst of it, and what must hold afterwards. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { Nats, Server } from "../../mod.ts"
import * as Client from "../../src/client/Client.ts"
import type { Summary } from "../../src/client/Batches.ts"
import * as EntryMessage from "../../src/client/EntryMessage.ts"
import * as Entry from "../../src/core/Entry.ts"
import * as EntryTick from "../../src/core/EntryTick.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import * as Waits from "../../src/core/Waits.ts"
import * as Claims from "../../src/nats/Claims.ts"
import * as Records from "../../src/nats/Records.ts"
import * as Subjects from "../../src/nats/Subjects.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { gate } from "../actors/harness.ts"
import { freshNamespace, spawnProgram, type TestServer as NatsServer } from "../harness.ts"
import { contents } from "../nats/stream.ts"
import { shortTimes } from "./crashTimes.ts"
import { type Dying, dying, type DyingOptions } from "./dying.ts"
import { Blocker, handlers } from "./programs/crashJobs.ts"

/** A world. */
export interface CrashWorld {
  readonly namespace: string
  /** Runs as a client that nobody kills. */
  readonly provide: <A, E>(self: Effect.Effect<A, E, Client.Client>) => Effect.Effect<A, E>
  /** Starts a server that lives as long as the world. */
  readonly serve: Effect.Effect<void, unknown, Scope.Scope>
  /** Lets a server live until it is killed, or until the writes it may make are done. */
  readonly serveUntilKilled: (
    options: DyingOptions,
    until: Effect.Effect<unknown, unknown>,
  ) => Effect.Effect<Dying, unknown>
  /** Runs as a client until that is done or it is killed; tells which, and what it has written. */
  readonly runUntilKilled: (
    act: Effect.Effect<unknown, unknown, Client.Client>,
    options: DyingOptions,
  ) => Effect.Effect<Dying & { readonly isDone: boolean }, unknown>
  /** Starts a process that is killed; ends when it was. */
  readonly kill: (env: Readonly<Record<string, string>>) => Effect.Effect<void, never, Scope.Scope>
  /** Lets all jobs go on that wait for that. */
  readonly openGates: Effect.Effect<void>
  /** Lets those succeed from now on that were made to fail. */
  readonly mend: Effect.Effect<void>
  /** Waits until nothing but records is left, and checks them. Gives how long that took, in ms. */
  readonly settled: (
    promised: ReadonlyArray<string>,
    options?: { readonly removed?: ReadonlyArray<string>; readonly anyRuns?: boolean },
  ) => Effect.Effect<number, unknown>
}

const program = new URL("./programs/crashing.ts", import.meta.url)

/** Makes a world. */
export const crashWorld = (
  nats: NatsServer,
): Effect.Effect<CrashWorld, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const namespace = freshNamespace()
    const layer = nats.layer(namespace)
    const healthy = yield* Layer.build(
      Client.layerOnWire.pipe(
        Layer.provideMerge(Wire.layer),
        Layer.provideMerge(layer),
        Layer.provide(shortTimes),
      ),
    )
    const client = Context.get(healthy, Client.Client)
    const wire = Context.get(healthy, Wire.Wire)
    const provide = Effect.provideService(Client.Client, client)
    const gates = gate()
    const runs = new Map<string, number>()
    let broken = true
    const server = (one: typeof layer) =>
      Server.layer({
        queues: { default: 20, narrow: 1, other: 5 },
        gracePeriod: 0,
      }).pipe(
        Layer.provide(handlers({
          started: (id) => runs.set(id, (runs.get(id) ?? 0) + 1),
          isBroken: () => broken,
          gate: gates.wait,
        })),
        Layer.provide(one),
        Layer.provide(shortTimes),
      )
    const clientOn = (one: typeof layer) =>
      Client.layer.pipe(Layer.provide(one), Layer.provide(shortTimes))

    /** Closes what has died, without waiting for what it still would do. */
    const bury = (scope: Scope.Closeable) => Effect.forkDetach(Scope.close(scope, Exit.void))

    const everything = Effect.gen(function* () {
      const { subjects } = yield* contents(Context.get(healthy, Nats.Nats))
      return subjects
    })
    const messages = Effect.gen(function* () {
      const all: Array<Records.JobMessage> = []
      for (let sequence = 1;;) {
        const stream = Subjects.jobsStream(namespace, 0)
        const page = yield* wire.reader.page(stream, wire.subjects.partition(0), {
          sequence,
          count: 1_000,
          bytes: 8_000_000,
        })
        const last = page.messages.at(-1)
        if (last === undefined) return all
        sequence = last.sequence + 1
        all.push(...Records.parse(wire.subjects, page.messages))
      }
    })
    const isCommand = ({ envelope: { name } }: Records.JobMessage) =>
      name.startsWith("_") && name !== "_batch"

    const check = Effect.fnUntraced(function* (
      promised: ReadonlyArray<string>,
      removed: ReadonlyArray<string>,
      anyRuns: boolean,
    ) {
      const records = (yield* messages).filter((message) => !isCommand(message))
      const byId = new Map(records.map((record) => [record.subject.id, record]))
      for (const id of promised) assert.ok(byId.has(id) || removed.includes(id), `${id} is lost`)
      for (const { envelope, subject: { group, id, state } } of records) {
        const { attempts, batch, earlier = 0, waits } = envelope.progress
        const what = `${envelope.name} ${id}, ${state}`
        if (batch !== undefined) {
          const members = records.filter(({ subject }) => subject.group === id)
          assert.equal(batch.total, members.length, `${what}: members`)
          const count = (one: string) =>
            members.filter(({ subject }) => subject.state === one).length
          if (state !== "cancelled") {
            const told = MessagePack.decode(envelope.outcome?.result ?? MessagePack.encode({}))
            const { cancelled, failed, succeeded, total } = told as Summary
            assert.deepEqual(
              [total, succeeded, failed, cancelled],
              [members.length, count("succeeded"), count("failed"), count("cancelled")],
              `${what}: summary`,
            )
            assert.equal(state === "succeeded", succeeded === total, what)
          }
          continue
        }
        if (group !== Subjects.noGroup) assert.ok(byId.has(group), `${what}: without its batch`)
        const ran = runs.get(id) ?? 0
        if (state === "succeeded") {
          if (!anyRuns) assert.equal(ran, attempts + earlier, `${what}: runs`)
        }
        if (waits === undefined) continue
        assert.ok(!waits.staged, `${what}: staged`)
        const { _tag } = Waits.decide(waits)
        if (state !== "cancelled") assert.equal(_tag, "Release", what)
        for (const { id: parent, outcome } of waits.parents) {
          const record = byId.get(parent)
          if (outcome === undefined) continue
          if (record !== undefined && record.envelope.progress.after === 0) {
            assert.equal(outcome.state, record.subject.state, `${what}: parent ${parent}`)
          }
        }
      }
    })

    const claimsAreFree = Effect.gen(function* () {
      for (const subject of yield* everything) {
        if (!subject.includes(".claim.")) continue
        const key = { partition: 0, hash: subject.split(".").at(-1) ?? "" }
        const claim = yield* Claims.read(wire, key)
        if (claim === undefined || claim.until === "expired") continue
        const { _tag } = yield* Claims.standingOf(wire, claim, 0)
        assert.equal(_tag, "Stale", `${subject} for ${claim.id}`)
      }
    })

    const isLeft = (subject: string) => /\.0\.(ready|later|retry|await|part|link)\./.test(subject)

    /** An entry that has nothing more to do. */
    const restingEntry = (message: Records.JobMessage) => {
      const said = EntryMessage.read(message)
      if (said === undefined || message.subject.state !== "await") return undefined
      const { plan, state } = said
      assert.ok(Entry.isReadable(plan) && Entry.isReadable(state), "an entry that can't be read")
      const look = EntryTick.nextLook(plan, state, Date.now(), 0)
      return look === undefined ? { plan, state } : undefined
    }

    /** Each nominal time of an entry has one job, as long as nothing forbids it. */
    const checkEntries = Effect.gen(function* () {
      const found = yield* messages
      const records = found.filter(({ subject }) => Records.isRecord(subject))
      for (const { plan, state } of found.flatMap((one) => restingEntry(one) ?? [])) {
        const { recurrence } = plan
        assert.ok(recurrence._tag === "At")
        const times = recurrence.instants.filter((at) => at < (state.paused ?? Infinity))
        const made = records.flatMap(({ envelope: { options: { recurring } }, subject: { id } }) =>
          recurring?.[0] === plan.id ? [{ id, at: recurring[1] }] : []
        )
        const byHand = state.history.filter((run) => run.byHand).map(({ id }) => id)
        const ids = new Set(made.map(({ id }) => id))
        for (const { id } of state.history) assert.ok(ids.has(id), `${plan.id}: ${id} is lost`)
        const clocked = made.filter(({ id }) => !byHand.includes(id)).map(({ at }) => at)
        assert.deepEqual(clocked.length, state.runs, `${plan.id}: runs`)
        assert.equal(new Set(clocked).size, clocked.length, `${plan.id}: double`)
        const { count = 0 } = state.skipped ?? {}
        assert.equal(clocked.length + count, times.length, `${plan.id}: missing`)
        assert.ok(clocked.every((at) => times.includes(at)))
      }
    })

    return {
      namespace,
      provide,
      serve: Effect.gen(function* () {
        yield* Layer.build(server(layer))
        // Who works on the narrow queue is busy until the gates open.
        yield* provide(Blocker.enqueue({ gated: true }, { queue: "narrow" }))
      }),
      serveUntilKilled: Effect.fnUntraced(function* (options, until) {
        const scope = yield* Scope.make()
        const one = dying(layer, options)
        // As killed as its connection: what starts it may never hear of that.
        const fiber = yield* Effect.forkDetach(Layer.buildWithScope(server(one.layer), scope))
        yield* Effect.raceFirst(one.died, until)
        yield* Fiber.interrupt(fiber).pipe(Effect.forkDetach)
        yield* bury(scope)
        return one
      }),
      runUntilKilled: Effect.fnUntraced(function* (act, options) {
        const one = dying(layer, options)
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(clientOn(one.layer), scope)
        const provided = Effect.provideService(
          Effect.provideService(act, Client.Client, Context.get(context, Client.Client)),
          Claims.ClaimGrace,
          500,
        )
        const fiber = yield* Effect.forkDetach(provided)
        const exit = yield* Effect.raceFirst(
          Fiber.await(fiber),
          Effect.as(one.died, undefined),
        )
        // What fails once it is dying fails in a process that is gone.
        if (exit?._tag === "Failure" && !one.isDying()) yield* exit
        const isDone = exit?._tag === "Success"
        if (isDone && !one.isDying()) yield* Scope.close(scope, Exit.void)
        else {
          yield* Effect.forkDetach(Fiber.interrupt(fiber))
          yield* bury(scope)
        }
        return { ...one, isDone }
      }),
      kill: Effect.fnUntraced(function* (env) {
        const servers = yield* Effect.promise(nats.url)
        const victim = yield* spawnProgram(program, {
          env: {
            SERVERS: servers,
            NAMESPACE: namespace,
            NATS_USER: nats.credentials.user,
            NATS_PASSWORD: nats.credentials.password,
            ...env,
          },
        })
        const end = yield* victim.exited
        assert.equal(end, "SIGKILL", victim.stderr())
      }),
      openGates: Effect.sync(gates.open),
      mend: Effect.sync(() => {
        broken = false
      }),
      settled: Effect.fnUntraced(function* (promised, { anyRuns = false, removed = [] } = {}) {
        const began = performance.now()
        while (true) {
          const resting = new Set(
            (yield* messages).filter(restingEntry).map(({ stored }) => stored.subject),
          )
          const left = (yield* everything).filter((one) => isLeft(one) && !resting.has(one))
          const records = (yield* messages).filter(({ subject }) => Records.isRecord(subject))
          const ids = records.map(({ subject }) => subject.id)
          const twice = ids.filter((id, index) => ids.indexOf(id) !== index)
          if (left.length === 0 && twice.length === 0) break
          if (performance.now() - began > 20_000) {
            const named = (yield* messages).map(({ envelope: { name, progress }, subject }) =>
              `${name} ${subject.state} ${subject.group} ${subject.id} ${
                JSON.stringify({ waits: progress.waits, batch: progress.batch })
              }`
            )
            assert.fail(
              `left: ${left.join("\n")}\ntwice: ${twice.join("\n")}\n${named.join("\n")}`,
            )
          }
          yield* Effect.sleep("50 millis")
        }
        const took = performance.now() - began
        yield* check(promised, removed, anyRuns)
        yield* checkEntries
        yield* claimsAreFree
        return took
      }),
    }
  })
