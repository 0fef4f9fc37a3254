/** What is done to the system: each fault hurts something for a while and puts it right again. */
import * as Effect from "effect/Effect"
import * as Api from "../../../src/nats/Api.ts"
import * as Subjects from "../../../src/nats/Subjects.ts"
import type { Random } from "../../model/Random.ts"
import type { Arena, Slot, Window } from "./Arena.ts"
import { Bad, queues, type Trouble, Work } from "./jobs.ts"
import type { Node } from "./NatsServers.ts"
import { ackWaitMillis } from "./Options.ts"

/** Does it, and is done when it is over. */
export type Fault = (arena: Arena, random: Random) => Promise<void>

const sleep = (millis: number) => new Promise<void>((done) => setTimeout(done, millis))

/** Notes the time in which somebody stands still. */
const during = async (
  { windows }: Arena,
  what: Window["what"],
  pid: number | undefined,
  body: () => Promise<unknown>,
): Promise<void> => {
  const window: Window = { what, pid, from: Date.now(), to: Infinity }
  windows.push(window)
  try {
    await body()
  } finally {
    window.to = Date.now()
  }
}

/** One of them, or now and then all. */
const some = <A>(random: Random, all: ReadonlyArray<A>): ReadonlyArray<A> =>
  random.chance(0.25) ? all : [random.pick(all)]

const longerThanLease = (random: Random) => ackWaitMillis + random.between(300, 2_500)

const killAndStart = (random: Random, slots: ReadonlyArray<Slot>) => {
  const pause = random.between(0, 1_000)
  return Promise.all(slots.map(async (slot) => {
    await slot.kill()
    await sleep(pause)
    await slot.start()
  }))
}

const bad = (trouble: Trouble, most: number): Fault => async ({ note, run }, random) => {
  const millis = trouble === "block" ? longerThanLease(random) : 3_000
  for (let left = random.between(1, most); left > 0; left--) {
    const id = await run(
      Bad.enqueue({ trouble, millis }, { queue: random.pick(queues) }),
    )
    note("acked", id, "bad")
  }
  await sleep(1_000)
}

/** Hurts the connections of some processes. */
const network =
  (hurt: (slot: Slot, random: Random) => Promise<void>): Fault => async (arena, random) => {
    const victims = some(random, [...arena.servers, ...arena.producers])
    const own = victims.map((slot) => [slot, random.fork()] as const)
    await Promise.all(
      own.map(([slot, fork]) => during(arena, "stall", slot.pid(), () => hurt(slot, fork))),
    )
  }

const held = (random: Random, directions: ReadonlyArray<"out" | "back">) => async (slot: Slot) => {
  for (const proxy of slot.proxies) proxy.hold(directions)
  await sleep(longerThanLease(random))
  // What was on its way is lost, or comes late.
  if (random.chance(0.5)) { for (const proxy of slot.proxies) proxy.reset() }
  for (const proxy of slot.proxies) proxy.release()
}

/** Calls the API of NATS until it has answered. */
const insist = async (
  { run, wire }: Arena,
  verb: string,
  change: (answer: Answer) => unknown,
  ask: string = verb,
): Promise<void> => {
  const { connection } = wire.nats
  await run(
    Effect.gen(function* () {
      const found = yield* Api.call<Answer>(connection, ask, undefined, "reading", 1_000)
      const body = change(found)
      yield* Api.call(connection, verb, body, "changing", 1_000)
    }).pipe(Effect.retry({ times: 30 })),
  )
}

interface Answer {
  readonly config: Readonly<Record<string, unknown>>
}

const jobsStreams = ({ namespace, wire }: Arena): ReadonlyArray<string> =>
  Array.from(
    { length: wire.partitions },
    (_, partition) => Subjects.jobsStream(namespace, partition),
  )

/** Changes the streams of jobs for a moment. */
const changed = (
  change: Readonly<Record<string, unknown>>,
  back: Readonly<Record<string, unknown>>,
): Fault =>
async (arena, random) => {
  const update = (change: Readonly<Record<string, unknown>>) =>
    Promise.all(
      jobsStreams(arena).map((stream) =>
        insist(
          arena,
          `STREAM.UPDATE.${stream}`,
          ({ config }) => ({ ...config, ...change }),
          `STREAM.INFO.${stream}`,
        )
      ),
    )
  try {
    await update(change)
    await sleep(random.between(500, 2_500))
  } finally {
    await update(back)
  }
}

const consumer = (arena: Arena, random: Random): readonly [string, string] => [
  random.pick(jobsStreams(arena)),
  Subjects.consumerName(random.pick([...queues, Subjects.engineQueue]), random.between(0, 4)),
]

const leaderOf = async ({ nodes, run, wire }: Arena, stream: string): Promise<Node> => {
  const { cluster } = await run(
    Effect.retry(
      Api.call<{ readonly cluster?: { readonly leader?: string } }>(
        wire.nats.connection,
        `STREAM.INFO.${stream}`,
        undefined,
        "reading",
        1_000,
      ),
      { times: 30 },
    ),
  )
  return nodes.find(({ name }) => name === cluster?.leader) ?? nodes[0] as Node
}

/** Faults of any topology. */
const common: Readonly<Record<string, Fault>> = {
  killServers: ({ servers }, random) => killAndStart(random, some(random, servers)).then(() => {}),
  killProducers: ({ producers }, random) =>
    killAndStart(random, some(random, producers)).then(() => {}),
  stopServers: async (arena, random) => {
    const victims = some(random, arena.servers)
    const millis = longerThanLease(random)
    await Promise.all(victims.map((slot) =>
      during(arena, "stall", slot.pid(), async () => {
        slot.signal("SIGSTOP")
        await sleep(millis)
        slot.signal("SIGCONT")
      })
    ))
  },
  rollingRestart: async ({ servers }) => {
    for (const slot of servers) {
      await slot.stop()
      await slot.start()
    }
  },
  wrongClock: async ({ servers }, random) => {
    const slot = random.pick(servers)
    const hours = random.pick([-30, -2, -0.01, 0.01, 2, 30])
    await slot.kill()
    await slot.start({ CLOCK_OFFSET: String(Math.round(hours * 3_600_000)) })
    await sleep(8_000)
    await slot.stop()
    await slot.start()
  },
  delayedNetwork: network(async (slot, random) => {
    for (const proxy of slot.proxies) proxy.delay(random.between(30, 600))
    await sleep(random.between(1_000, 5_000))
    for (const proxy of slot.proxies) proxy.delay(0)
  }),
  deadNetwork: network((slot, random) => held(random, ["out", "back"])(slot)),
  oneWayNetwork: network((slot, random) =>
    held(random, [random.pick(["out", "back"] as const)])(slot)
  ),
  resetNetwork: network(async (slot, random) => {
    for (let left = random.between(1, 4); left > 0; left--) {
      for (const proxy of slot.proxies) proxy.reset()
      await sleep(random.between(0, 700))
    }
  }),
  directReadsOff: changed({ allow_direct: false }, { allow_direct: true }),
  consumerDeleted: async (arena, random) => {
    const [stream, name] = consumer(arena, random)
    const { connection } = arena.wire.nats
    const asked = Api.call(connection, `CONSUMER.DELETE.${stream}.${name}`, undefined, "deleting")
    await arena.run(Effect.ignore(asked))
    await sleep(1_000)
  },
  consumerChanged: async (arena, random) => {
    const [stream, name] = consumer(arena, random)
    const change = (more: object) =>
      insist(
        arena,
        `CONSUMER.CREATE.${stream}.${name}`,
        ({ config }) => ({ stream_name: stream, config: { ...config, ...more } }),
        `CONSUMER.INFO.${stream}.${name}`,
      )
    // A queue on which nobody has worked yet has none.
    await change({ max_ack_pending: random.between(1, 5) }).catch(() => {})
    await sleep(random.between(500, 3_000))
    await change({ max_ack_pending: 10_000 }).catch(() => {})
  },
  burst: async ({ note, run }, random) => {
    const payloads = Array.from(
      { length: random.between(500, 1_500) },
      () => ({ steps: ["succeed"], millis: random.between(0, 20) }),
    )
    for (const id of await run(Work.enqueueMany(payloads))) note("acked", id, "burst")
  },
  blockingHandler: bad("block", 2),
  endlessHandler: bad("endless", 3),
  stubbornHandler: bad("stubborn", 3),
  throwingFinalizer: bad("finalizer", 3),
  exitingHandler: bad("exit", 1),
}

/** Faults of a single NATS server. */
const single: Readonly<Record<string, Fault>> = {
  killNats: (arena, random) =>
    during(arena, "nats", undefined, async () => {
      const [node] = arena.nodes as readonly [Node]
      await node.kill()
      await sleep(random.between(0, 1_500))
      await node.start()
    }),
  restartNats: (arena, random) =>
    during(arena, "nats", undefined, async () => {
      const [node] = arena.nodes as readonly [Node]
      await node.stop()
      await sleep(random.between(0, 1_500))
      await node.start()
    }),
  storageFull: (arena, random) =>
    during(arena, "nats", undefined, async () => {
      const [node] = arena.nodes as readonly [Node]
      const room = await node.stored() + random.between(20_000, 200_000)
      await node.stop()
      await node.start(room)
      await sleep(random.between(1_000, 4_000))
      await node.stop()
      await node.start()
    }),
  stopNats: (arena, random) =>
    during(arena, "nats", undefined, async () => {
      const [node] = arena.nodes as readonly [Node]
      node.signal("SIGSTOP")
      await sleep(random.between(500, 5_000))
      node.signal("SIGCONT")
    }),
}

const restarted = (arena: Arena, node: Node, wiped: boolean, millis: number) =>
  during(arena, "nats", undefined, async () => {
    await node.kill()
    if (wiped) node.wipe()
    await sleep(millis)
    await node.start()
  })

/** Faults of a cluster; a majority always lives. */
const cluster: Readonly<Record<string, Fault>> = {
  killNode: (arena, random) =>
    restarted(arena, random.pick(arena.nodes), false, random.between(0, 3_000)),
  killEachNode: async (arena, random) => {
    for (const node of arena.nodes) {
      await restarted(arena, node, false, random.between(0, 1_000))
    }
  },
  killLeader: async (arena, random) => {
    const leader = await leaderOf(arena, random.pick(jobsStreams(arena)))
    await restarted(arena, leader, false, random.between(0, 3_000))
  },
  wipeNode: (arena, random) =>
    restarted(arena, random.pick(arena.nodes), true, random.between(0, 3_000)),
  stopNode: (arena, random) =>
    during(arena, "nats", undefined, async () => {
      const node = random.pick(arena.nodes)
      node.signal("SIGSTOP")
      await sleep(random.between(500, 8_000))
      node.signal("SIGCONT")
    }),
}

/** All faults that fit a topology, by name. */
export const of = (isCluster: boolean): Readonly<Record<string, Fault>> => ({
  ...common,
  ...isCluster ? cluster : single,
})

/** Faults that hurt NATS itself: of these only one goes on at a time. */
export const hurtsNats = (name: string): boolean => name in single || name in cluster
