import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { Interest } from "../../actors/Interest.ts"
import { Isolation } from "../../actors/Isolation.ts"
import type * as Report from "../../actors/kit/Report.ts"
import * as Supervisor from "../../actors/kit/Supervisor.ts"
import type { Pool } from "../../actors/Pool.ts"
import * as QueueSupervisor from "../../actors/QueueSupervisor.ts"
import { Client, Job, type Nats, Retry, StreamSettings } from "../../mod.ts"
import * as Envelope from "../../src/core/Envelope.ts"
import * as Codec from "../../src/core/Codec.ts"
import * as Engine from "../../src/client/Engine.ts"
import { handlersIn } from "../../src/client/Handler.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { effect, eventually, testServer } from "../harness.ts"
import {
  ended,
  gate,
  heldIn,
  is,
  publishRaw,
  serve,
  subjectsIn,
  type Watch,
  watch,
} from "./harness.ts"

const Work = Job.make("work", {
  payload: Schema.Number,
  retry: Retry.fixed({ attempts: 2, delay: 0 }),
})

interface Tree extends Watch {
  readonly client: Client.Client
  readonly wire: Wire.Wire
  readonly pool: () => Pool
  readonly enqueue: (count: number) => Effect.Effect<ReadonlyArray<string>, unknown>
  /** Waits until all jobs have ended, and checks that each did so once. */
  readonly complete: (ids: ReadonlyArray<string>) => Effect.Effect<void, unknown>
  /** Children that were restarted, with who caused it. */
  readonly restarted: () => ReadonlyArray<string>
}

/** The tree of one pool, on a wire that the test may break. */
const supervise = (
  nats: Layer.Layer<Nats.Nats, Nats.ConnectError>,
  handler: (n: number) => Effect.Effect<void>,
  plant: (wire: Wire.Wire) => Wire.Wire = (wire) => wire,
): Effect.Effect<Tree, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Layer.build(
      Layer.mergeAll(
        Layer.merge(Client.layerOnWire, Engine.layer).pipe(
          Layer.provideMerge(Wire.layer),
          Layer.provide(nats),
        ),
        Work.toLayer(handler),
      ).pipe(Layer.provide(Layer.succeed(StreamSettings, { ackWaitMillis: 1_000 }))),
    )
    const client = Context.get(context, Client.Client)
    const wire = Context.get(context, Wire.Wire)
    const log = watch()
    const pools: Array<Pool> = []
    const handlers = new Map(
      handlersIn(context as Context.Context<never>).map((ready) => [ready.definition.name, ready]),
    )
    yield* Supervisor.start({
      id: "test",
      intensity: 20,
      period: "1 minute",
      onReport: (report) => log.onEvent({ _tag: "Supervision", report }),
      children: [QueueSupervisor.childSpec({
        name: "default",
        queues: ["default"],
        slots: 10,
        graceMillis: 1_000,
        server: "server",
        wire: plant(wire),
        engine: Context.get(context, Engine.Engine),
        handlers,
        isolation: new Isolation(),
        interest: new Interest(() => {}),
        emit: log.onEvent,
      }, (pool) => pools.push(pool))],
    })
    return {
      ...log,
      client,
      wire,
      pool: () => pools.at(-1) as Pool,
      enqueue: (count) =>
        client.enqueueMany(Work.definition, Array.from({ length: count }, (_, i) => i)),
      complete: Effect.fnUntraced(function* (ids) {
        const outcomes = yield* log.until(ended(), { count: ids.length })
        assert.deepEqual(outcomes.map(({ id }) => id as string).sort(), [...ids].sort())
        yield* eventually(heldIn(wire.nats, "default"), (held) => held === 0)
        const left = yield* subjectsIn(wire.nats, "ready.>")
        assert.deepEqual(left, [])
      }),
      restarted: () =>
        log.events.flatMap((event) =>
          event._tag === "Supervision" && event.report._tag === "ChildRestarted"
            ? [`${event.report.child} because of ${event.report.because}`]
            : []
        ),
    }
  })

const terminated = (child: string) =>
  is(
    "Supervision",
    undefined,
    ({ report }) =>
      report._tag === "ChildTerminated" && (report as Report.ChildTerminated).child === child,
  )

const broken = (): never => {
  throw new Error("planted")
}

describe("A crash of", () => {
  const nats = testServer()

  effect(
    "the committer before it writes restarts it and those after it; no job is lost",
    () =>
      Effect.gen(function* () {
        let armed = 0
        const tree = yield* supervise(nats.layer(), () => Effect.void, (wire) => ({
          ...wire,
          publisher: {
            publish: (...args: Parameters<typeof wire.publisher.publish>) =>
              --armed === 0 ? broken() : wire.publisher.publish(...args),
          } as typeof wire.publisher,
        }))
        armed = 25
        yield* tree.complete(yield* tree.enqueue(100))
        assert.deepEqual(tree.restarted(), [
          "committer because of committer",
          "fetcher because of committer",
          "drainer because of committer",
        ])
      }),
  )

  effect("the committer after it wrote tells of each outcome once", () =>
    Effect.gen(function* () {
      let armed = 0
      const tree = yield* supervise(nats.layer(), () => Effect.void, (wire) => ({
        ...wire,
        publisher: {
          publish: ((publication, callback) => {
            wire.publisher.publish(publication, (ack) => {
              // The committer is killed by an answer that it can't read: what follows is unheard.
              if (--armed === 0) callback(undefined as unknown as typeof ack)
              else callback(ack)
            })
          }) as typeof wire.publisher.publish,
        } as typeof wire.publisher,
      }))
      armed = 12
      yield* tree.complete(yield* tree.enqueue(100))
      assert.ok(tree.events.some(terminated("committer")))
      assert.equal(tree.events.some(is("OutcomeLost")), false)
    }))

  effect(
    "the fetcher leaves running attempts alone and forgets no arrival",
    () =>
      Effect.gen(function* () {
        const { open, wait } = gate()
        let armed = false
        const interrupted: Array<number> = []
        const tree = yield* supervise(
          nats.layer(),
          (n) =>
            n > 0
              ? Effect.void
              : Effect.onInterrupt(wait, () => Effect.sync(() => interrupted.push(n))),
          (wire) => ({
            ...wire,
            reader: {
              newest: (...args: Parameters<typeof wire.reader.newest>) => {
                if (!armed) return wire.reader.newest(...args)
                armed = false
                return Effect.die(new Error("planted"))
              },
            } as typeof wire.reader,
          }),
        )
        const [first] = yield* tree.enqueue(1)
        yield* tree.until(is("AttemptStarted"))
        armed = true
        const ids = yield* tree.enqueue(50)
        yield* tree.until(terminated("fetcher"))
        // One of the fifty has the number of the first, and waits at the gate as well.
        yield* tree.until(ended(), { count: 49 })
        open()
        yield* tree.complete([first as string, ...ids])
        assert.deepEqual(interrupted, [])
        assert.deepEqual(tree.restarted(), [
          "fetcher because of fetcher",
          "drainer because of fetcher",
        ])
      }),
  )

  effect("the lease keeper restarts all but the workers", () =>
    Effect.gen(function* () {
      const { open, wait } = gate()
      const tree = yield* supervise(nats.layer(), () => wait)
      const ids = yield* tree.enqueue(5)
      yield* tree.until(is("AttemptStarted"), { count: 5 })
      const { puller } = tree.pool()
      const renew = puller.renew.bind(puller)
      puller.renew = () => {
        puller.renew = renew
        broken()
      }
      yield* tree.until(terminated("lease"))
      yield* tree.until(is("Supervision", undefined, ({ report }) =>
        report._tag === "ChildRestarted" && report.child === "drainer"))
      open()
      yield* tree.complete(ids)
      assert.equal(tree.events.filter(is("AttemptStarted")).length, 5)
      assert.deepEqual(tree.restarted(), [
        "lease because of lease",
        "committer because of lease",
        "fetcher because of lease",
        "drainer because of lease",
      ])
    }))

  effect(
    "the fetcher, over the same arrivals again and again, forgets none of them",
    () =>
      Effect.gen(function* () {
        let armed = 3
        const tree = yield* supervise(nats.layer(), () => Effect.void, (wire) => ({
          ...wire,
          reader: {
            newest: (...args: Parameters<typeof wire.reader.newest>) =>
              armed-- > 0 ? Effect.die(new Error("planted")) : wire.reader.newest(...args),
          } as typeof wire.reader,
        }))
        yield* tree.complete(yield* tree.enqueue(5))
        // Several checks may meet their end in one life.
        assert.ok(tree.events.filter(terminated("fetcher")).length >= 2)
      }),
  )

  effect("a whole pool does not keep the others from starting jobs", () =>
    Effect.gen(function* () {
      const { open, wait } = gate()
      const tree = yield* supervise(nats.layer(), (n) => n === 0 ? wait : Effect.void)
      yield* tree.enqueue(1)
      yield* tree.until(is("AttemptStarted"))
      // This one has lost three servers: it waits until it may run alone.
      const payload = yield* Codec.make(Schema.Number).encode(1)
      const bytes = Envelope.fresh(Work.definition.template, Date.now(), payload)
      const envelope = Envelope.decode(bytes)
      assert.ok(Envelope.isEnvelope(envelope))
      const alone = Envelope.live(envelope, { ...Envelope.untouched, lost: 3 })
      const { namespace } = tree.wire.nats
      yield* publishRaw(tree.wire.nats, `pf.${namespace}.0.ready.default.3._.alone`, alone)
      const { isolation } = tree.pool().options
      yield* eventually(Effect.sync(() => isolation.open), (open) => !open)
      tree.pool().abandon()
      assert.equal(isolation.open, true)
      open()
    }))
})

describe("An observer that throws", () => {
  const nats = testServer()

  effect("hurts neither the jobs nor the server", () =>
    Effect.gen(function* () {
      const server = yield* serve(
        nats.layer(),
        Work.toLayer((n) => n % 2 ? Effect.void : Effect.die("no")),
        {
          onEvent: () => {
            throw new Error("thrown by the observer")
          },
        },
      )
      const ids = yield* server.provide(Work.enqueueMany([1, 2, 3, 4, 5, 6]))
      yield* server.until(ended(), { count: 6 })
      for (const id of ids) assert.notEqual((yield* server.client.get(id)).ended, undefined)
      const troubles = server.events.filter(
        is("Supervision", undefined, ({ report }) => report._tag !== "ChildStarted"),
      )
      assert.deepEqual(troubles, [])
    }))
})
