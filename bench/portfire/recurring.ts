/** What the benchmarks of recurring entries share: the job, its entries, and servers that run them. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Client, Job, type Nats, Recurring } from "../../mod.ts"
import type { WireError } from "../../src/nats/Wire.ts"
import { type Program, startProgram } from "../support/process.ts"
import { environmentOf } from "../support/program.ts"
import { sleep } from "../support/time.ts"
import type { World } from "../support/workload.ts"
import { connectionTo } from "./engine.ts"

/** The job of all entries. */
export const Tick = Job.make("tick")

/** A run: its id, its nominal time, and when its handler began, both in ms since 1970. */
export type Start = readonly [id: string, at: number, began: number]

/** Where a server of a namespace is asked for its starts. */
export const startsFrom = (namespace: string, name: string): string => `bench.${namespace}.${name}`

/** A client of a namespace. */
export const clientOf = (
  world: World,
): ManagedRuntime.ManagedRuntime<Client.Client, Nats.ConnectError | WireError> =>
  ManagedRuntime.make(Layer.provide(Client.layer, connectionTo(world)))

/** Declares so many entries with one schedule, 64 at a time, and gives the seconds it took. */
export const declare = async (
  world: World,
  count: number,
  schedule: Recurring.Schedule,
): Promise<number> => {
  const client = clientOf(world)
  await client.context()
  const start = performance.now()
  await client.runPromise(Effect.forEach(
    Array.from({ length: count }, (_, index) => `entry/${index}`),
    (id) => Recurring.upsert(id, { job: Tick, schedule }),
    { concurrency: 64, discard: true },
  ))
  const seconds = (performance.now() - start) / 1_000
  await client.dispose()
  return seconds
}

/** The cron expression of one second of a day, in UTC. */
export const cronOf = (at: number): string => {
  const date = new Date(at)
  return [date.getUTCSeconds(), date.getUTCMinutes(), date.getUTCHours(), "*", "*", "*"].join(" ")
}

/** Servers that run what is due. */
export interface Servers {
  readonly pids: ReadonlyArray<number>
  /** How many attempts have begun. */
  readonly began: () => Promise<number>
  /** The runs that have begun since it was last called. */
  readonly take: () => Promise<ReadonlyArray<Start>>
  /** Has the first one enqueue so many plain jobs. */
  readonly enqueue: (count: number) => Promise<void>
  readonly stop: () => Promise<void>
}

/** Starts servers, each a process of its own. */
export const startServers = async (world: World, count: number): Promise<Servers> => {
  const { connection, namespace } = world
  const names = Array.from({ length: count }, (_, index) => `server${index}`)
  const file = new URL("../programs/recurring.ts", import.meta.url)
  const programs: Array<Program> = names.map((name) =>
    startProgram(file, { ...environmentOf(world), BENCH_NAME: name })
  )
  await Promise.all(programs.map(({ ready }) => ready))
  const ask = async (name: string, what: string, text = "") => {
    const subject = `${startsFrom(namespace, name)}.${what}`
    return (await connection.request(subject, text, { timeout: 30_000 })).string()
  }
  return {
    pids: programs.map(({ pid }) => pid),
    began: async () => {
      const counts = await Promise.all(names.map((name) => ask(name, "count")))
      return counts.map(Number).reduce((sum, one) => sum + one, 0)
    },
    take: async () => {
      const found: Array<Start> = []
      for (const name of names) {
        while (true) {
          const some = JSON.parse(await ask(name, "take")) as ReadonlyArray<Start>
          if (some.length === 0) break
          found.push(...some)
        }
      }
      return found
    },
    enqueue: async (jobs) => {
      const trouble = await ask(names[0] ?? "", "enqueue", String(jobs))
      if (trouble !== "") throw new Error(trouble)
    },
    stop: async () => {
      await Promise.all(programs.map(({ stop }) => stop()))
    },
  }
}

/** Resolves when so many attempts have begun, and fails when they haven't within a time. */
export const untilBegan = async (
  servers: Servers,
  count: number,
  withinMillis: number,
): Promise<void> => {
  const end = performance.now() + withinMillis
  while (true) {
    const began = await servers.began()
    if (began >= count) return
    if (performance.now() > end) throw new Error(`${began} of ${count} runs have begun`)
    await sleep(100)
  }
}

/** Fails when a run began twice, or another number than expected began. */
export const checkOnce = (starts: ReadonlyArray<Start>, count: number): void => {
  const ids = new Set(starts.map(([id]) => id))
  if (ids.size !== starts.length || ids.size !== count) {
    throw new Error(`${starts.length} starts of ${ids.size} runs, expected ${count}`)
  }
}
