/** Everything that a run hurts: NATS, servers and producers, each behind proxies of its own. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Client, Nats, StreamSettings } from "../../../mod.ts"
import { AlarmMillis, layer as wireLayer, Wire } from "../../../src/nats/Wire.ts"
import { writer } from "./Ledger.ts"
import * as NatsServers from "./NatsServers.ts"
import { ackWaitMillis, alarmMillis, graceMillis, type Options, type Runtime } from "./Options.ts"
import * as Processes from "./Processes.ts"
import * as Proxy from "./Proxy.ts"

/** A process that is kept alive, and hurt. */
export interface Slot {
  readonly name: string
  readonly kind: "server" | "producer"
  readonly proxies: ReadonlyArray<Proxy.Proxy>
  readonly pid: () => number
  readonly signal: (signal: NodeJS.Signals) => void
  /** SIGTERM, and waits for the end, which must be a good one. */
  readonly stop: () => Promise<void>
  /** SIGKILL, and waits for the end. */
  readonly kill: () => Promise<void>
  /** Starts it where it doesn't run, and waits until it is ready. */
  readonly start: (env?: Readonly<Record<string, string>>) => Promise<void>
  /** How large it was a moment after its first start. */
  first: { readonly megabytes: number; readonly files: number } | undefined
}

/** A time in which something could not work as it should. */
export interface Window {
  readonly what: "nats" | "stall"
  /** Whose, of a stall. */
  readonly pid?: number | undefined
  readonly from: number
  to: number
}

/** All of it. */
export interface Arena {
  readonly options: Options
  readonly namespace: string
  readonly ledger: string
  readonly nodes: ReadonlyArray<NatsServers.Node>
  readonly servers: ReadonlyArray<Slot>
  readonly producers: ReadonlyArray<Slot>
  readonly wire: Wire
  readonly client: Client.Client
  readonly note: (what: string, id: string, ...more: ReadonlyArray<string | number>) => void
  /** Runs an effect that needs the client. */
  readonly run: <A>(self: Effect.Effect<A, unknown, Client.Client>) => Promise<A>
  readonly windows: Array<Window>
  /** What went wrong on the way. */
  readonly problems: Array<string>
  /** How often a process did not start while NATS was hurt, and how often handlers ended theirs. */
  readonly counts: { failedStarts: number; handlerExits: number }
  readonly close: () => Promise<void>
}

const sleep = (millis: number) => new Promise<void>((done) => setTimeout(done, millis))
const readyMillis = 60_000
const stopMillis = graceMillis + 15_000

/** What a handler ends its process with. */
const handlerExit = 7

const program = (name: string) => fileURLToPath(new URL(`./programs/${name}.ts`, import.meta.url))

interface Setup {
  readonly name: string
  readonly kind: Slot["kind"]
  readonly runtime: Runtime
  readonly env: Readonly<Record<string, string>>
  readonly proxies: ReadonlyArray<Proxy.Proxy>
  readonly problems: Array<string>
  readonly counts: Arena["counts"]
}

const makeSlot = ({ counts, env, kind, name, problems, proxies, runtime }: Setup): Slot => {
  let running: Processes.Running | undefined
  /** Whether its end is no surprise. */
  let doomed = false
  let starts = 0
  let starting: Promise<void> | undefined
  const start = async (more: Readonly<Record<string, string>> = {}): Promise<void> => {
    const limit = performance.now() + readyMillis
    for (;;) {
      starts++
      doomed = false
      const [command = "", ...args] = runtime.command
      const servers = proxies.map(({ address }) => address).join(",")
      const mine = Processes.start({
        command,
        args: [...args, program(kind)],
        env: { ...env, ...more, NAME: name, SERVERS: servers, SEED: `${env["SEED"]}${starts}` },
      })
      running = mine
      const late = setTimeout(() => mine.signal("SIGKILL"), readyMillis)
      const isReady = await mine.ready.then(() => true, () => false)
      clearTimeout(late)
      if (isReady) {
        watch(mine)
        return
      }
      if (doomed) return
      counts.failedStarts++
      if (performance.now() > limit) {
        problems.push(`${name} did not start within a minute: ${mine.said()}`)
        return
      }
      await sleep(300)
    }
  }
  const startOnce = (more?: Readonly<Record<string, string>>): Promise<void> => {
    if (running !== undefined && running.end() === undefined && starting === undefined) {
      return Promise.resolve()
    }
    return starting ??= start(more).finally(() => starting = undefined)
  }
  const watch = (mine: Processes.Running) => {
    mine.exited.then(async (end) => {
      if (doomed || mine !== running) return
      if (end === handlerExit) counts.handlerExits++
      else problems.push(`${name} ended by itself (${end}): ${mine.said()}`)
      await sleep(300)
      if (mine === running) await startOnce()
    })
  }
  const end = async (signal: NodeJS.Signals): Promise<Processes.End> => {
    doomed = true
    const mine = running
    mine?.signal(signal)
    const late = setTimeout(() => {
      problems.push(`${name} did not stop within ${stopMillis} ms of ${signal}`)
      mine?.signal("SIGKILL")
    }, stopMillis)
    await mine?.exited
    clearTimeout(late)
    await starting
    return mine?.end()
  }
  return {
    name,
    kind,
    proxies,
    pid: () => running?.pid ?? -1,
    signal: (signal) => running?.signal(signal),
    stop: async () => {
      const how = await end("SIGTERM")
      if (how === handlerExit) counts.handlerExits++
      else if (how !== 0) problems.push(`${name} ended with ${how} after SIGTERM`)
    },
    kill: async () => void await end("SIGKILL"),
    start: startOnce,
    first: undefined,
  }
}

/** Sets everything up and starts it. */
export const open = async (options: Options, folder: string): Promise<Arena> => {
  const { cluster, runtimes, seed } = options
  const namespace = `torture${seed}`
  const ledger = join(folder, "ledger")
  const data = join(folder, "nats")
  mkdirSync(ledger)
  mkdirSync(data)
  const nodes = await NatsServers.make(data, cluster ? 3 : 1)
  await Promise.all(nodes.map((node) => node.start()))
  const replicas = cluster ? 3 : 1
  const partitions = seed % 3 === 0 ? 2 : 1
  const scope = Scope.makeUnsafe()
  const layer = Layer.mergeAll(Client.layer, wireLayer).pipe(
    Layer.provideMerge(Nats.layer({
      servers: nodes.map(({ port }) => `127.0.0.1:${port}`),
      namespace,
      authentication: NatsServers.credentials,
      waitOnFirstConnect: true,
    })),
    Layer.provide(Layer.succeed(StreamSettings, { ackWaitMillis, partitions, replicas })),
    Layer.provide(Layer.succeed(AlarmMillis, alarmMillis)),
  )
  // Right after a cluster has formed it may not have a leader for everything.
  const context = await Effect.runPromise(
    Effect.retry(Layer.buildWithScope(layer, scope), { times: 5 }),
  )
  const problems: Array<string> = []
  const counts = { failedStarts: 0, handlerExits: 0 }
  const env = {
    NAMESPACE: namespace,
    NATS_USER: NatsServers.credentials.user,
    NATS_PASSWORD: NatsServers.credentials.password,
    ACK_WAIT: String(ackWaitMillis),
    ALARM: String(alarmMillis),
    GRACE: String(graceMillis),
    LEDGER: ledger,
    REPLICAS: String(replicas),
    PARTITIONS: String(partitions),
    SLOTS: "10",
    LANES: "4",
    PAUSE: String(options.pauseMillis),
  }
  const slot = async (kind: Slot["kind"], index: number) => {
    const runtime = runtimes[index % runtimes.length] as Runtime
    const proxies = await Promise.all(nodes.map(({ port }) => Proxy.start(port)))
    const name = `${kind}${index}-${runtime.name}`
    const own = { ...env, SEED: `${seed % 100_000}${index}` }
    return makeSlot({ name, kind, runtime, env: own, proxies, problems, counts })
  }
  const slots = (kind: Slot["kind"], count: number) =>
    Promise.all(Array.from({ length: count }, (_, index) => slot(kind, index)))
  const servers = await slots("server", runtimes.length)
  const producers = await slots("producer", options.producers)
  return {
    options,
    namespace,
    ledger,
    nodes,
    servers,
    producers,
    wire: Context.get(context, Wire),
    client: Context.get(context, Client.Client),
    note: writer(ledger),
    run: (self) => Effect.runPromise(Effect.provide(self, context)),
    windows: [],
    problems,
    counts,
    close: async () => {
      await Promise.all([...servers, ...producers].map((slot) => slot.kill()))
      await Effect.runPromise(Scope.close(scope, Exit.void))
      await Promise.all(nodes.map((node) => node.kill()))
      const proxies = [...servers, ...producers].flatMap((slot) => slot.proxies)
      await Promise.all(proxies.map((proxy) => proxy.close()))
    },
  }
}
