/** A run: load, faults by chance with calm between them, rest, and the verdict. */
import * as Effect from "effect/Effect"
import { Recurring } from "../../../mod.ts"
import { Random } from "../../model/Random.ts"
import * as Arena from "./Arena.ts"
import * as Chronicle from "./Chronicle.ts"
import * as Faults from "./Faults.ts"
import { Tick } from "./jobs.ts"
import type { Options } from "./Options.ts"
import * as Processes from "./Processes.ts"
import * as Verdict from "./Verdict.ts"

/** A fault that was done, with its times in ms since 1970. */
export interface Done {
  readonly name: string
  readonly from: number
  readonly to: number
}

/** The size of a server at its first start, and in the end. */
export interface Size {
  readonly name: string
  readonly first: Arena.Slot["first"]
  readonly last: Arena.Slot["first"]
}

/** What a run has shown. */
export interface Result extends Verdict.Verdict {
  readonly faults: ReadonlyArray<Done>
  readonly sizes: ReadonlyArray<Size>
  /** When it began and when the last fault was over, in ms since 1970. */
  readonly began: number
  readonly calm: number
}

const sleep = (millis: number) => new Promise<void>((done) => setTimeout(done, millis))

/** What a server may have more of in the end than at its start. */
const growth = { megabytes: 250, files: 40 }

/** Of these only one at a time: they would undo each other. */
const lifecycle: ReadonlySet<string> = new Set([
  "killServers",
  "stopServers",
  "rollingRestart",
  "wrongClock",
  "exitingHandler",
])

const groupOf = (name: string): string =>
  Faults.hurtsNats(name)
    ? "nats"
    : lifecycle.has(name)
    ? "lifecycle"
    : name.endsWith("Network")
    ? "network"
    : name

const entries = [{ id: "each-second", every: 1_000 }, { id: "each-1700ms", every: 1_700 }]

/** Faults in an order that has each of them before any comes again. */
const deck = (random: Random, names: ReadonlyArray<string>) => {
  let left: Array<string> = []
  const draw = (fits: (name: string) => boolean): string | undefined => {
    if (left.length === 0) left = [...names]
    const fitting = left.filter(fits)
    if (fitting.length === 0) return undefined
    const name = random.pick(fitting)
    left = left.filter((other) => other !== name)
    return name
  }
  return draw
}

const declare = async (arena: Arena.Arena) => {
  const firsts = new Map<string, number>()
  for (const { every, id } of entries) {
    const { entry } = await arena.run(Recurring.upsert(id, {
      job: Tick,
      schedule: { every },
      misfire: { policy: "all", cap: 1_000 },
    }))
    firsts.set(id, entry.next?.getTime() ?? 0)
  }
  return firsts
}

/** Removes the entries once they have got over the last fault. */
const withdraw = async (arena: Arena.Arena, firsts: ReadonlyMap<string, number>) => {
  const overIt = Date.now()
  for (const { every, id } of entries) {
    const limit = performance.now() + 60_000
    while (performance.now() < limit) {
      const { last } = await arena.run(Effect.retry(Recurring.get(id), { times: 5 }))
      if ((last?.at.getTime() ?? 0) > overIt) break
      await sleep(200)
    }
    const { last } = await arena.run(Effect.retry(Recurring.pause(id), { times: 5 }))
    arena.note("recurring", id, firsts.get(id) ?? 0, last?.at.getTime() ?? 0, every)
    if ((last?.at.getTime() ?? 0) <= overIt) arena.problems.push(`the entry ${id} stands still`)
    await arena.run(Effect.retry(Recurring.remove(id), { times: 5 }))
  }
}

/** Puts right whatever a fault has left. */
const heal = async ({ nodes, producers, servers }: Arena.Arena) => {
  for (const node of nodes) {
    node.signal("SIGCONT")
    await node.start()
  }
  await Promise.all([...servers, ...producers].map(async (slot) => {
    for (const proxy of slot.proxies) {
      proxy.delay(0)
      proxy.release()
    }
    slot.signal("SIGCONT")
    await slot.start()
  }))
}

const rounds = async (arena: Arena.Arena): Promise<ReadonlyArray<Done>> => {
  const { cluster, millis, only, say, seed } = arena.options
  const random = new Random(seed)
  const catalogue = Faults.of(cluster)
  const names = Object.keys(catalogue).filter((name) => only.length === 0 || only.includes(name))
  const draw = deck(random, names)
  const done: Array<Done> = []
  const end = performance.now() + millis
  while (performance.now() < end) {
    const first = draw(() => true) as string
    const second = random.chance(0.4)
      ? draw((name) => name !== first && groupOf(name) !== groupOf(first))
      : undefined
    const chosen = [first, ...second === undefined ? [] : [second]]
      .map((name) => [name, random.fork()] as const)
    const lag = random.between(0, 1_500)
    const calm = random.between(1_000, 4_000)
    say(chosen.map(([name]) => name).join(" + "))
    await Promise.all(chosen.map(async ([name, fork], index) => {
      await sleep(index * lag)
      const from = Date.now()
      arena.note("fault", "-", name)
      try {
        await catalogue[name]?.(arena, fork)
      } catch (error) {
        // An operator whose request NATS doesn't answer.
        say(`${name} was not done: ${(error as Error).message.split("\n")[0]}`)
      }
      arena.note("over", "-", name)
      done.push({ name, from, to: Date.now() })
    }))
    await heal(arena)
    await sleep(calm)
  }
  return done
}

const sizesOf = (arena: Arena.Arena): ReadonlyArray<Size> =>
  arena.servers.map((server) => {
    const { first, name } = server
    const last = Processes.sizeOf(server.pid())
    const grown = first !== undefined && (last.megabytes > first.megabytes + growth.megabytes ||
      last.files > first.files + growth.files)
    if (grown) {
      arena.problems.push(`${name} has grown ${JSON.stringify(first)} to ${JSON.stringify(last)}`)
    }
    return { name, first, last }
  })

/** Does it in a folder, which is left as it is. */
export const run = async (options: Options, folder: string): Promise<Result> => {
  const { say } = options
  const arena = await Arena.open(options, folder)
  const chronicle = await Chronicle.begin(arena.wire, arena.nodes)
  try {
    const firsts = await declare(arena)
    await Promise.all(arena.servers.map((server) => server.start()))
    await Promise.all(arena.producers.map((producer) => producer.start()))
    await sleep(2_000)
    for (const server of arena.servers) server.first = Processes.sizeOf(server.pid())
    say("everything runs")
    const began = Date.now()
    const faults = await rounds(arena)
    const calm = Date.now()
    say("calm")
    await Promise.all(arena.producers.map((producer) => producer.stop()))
    await withdraw(arena, firsts)
    say("settling")
    const verdict = await arena.run(Verdict.reach(arena, chronicle))
    const sizes = sizesOf(arena)
    for (const server of arena.servers) await server.stop()
    const seen = new Set(verdict.violations.map(({ text }) => text))
    const late = arena.problems.filter((text) => !seen.has(text))
      .map((text) => ({ rule: "process", id: "", text }))
    const violations = [...verdict.violations, ...late]
    return { ...verdict, violations, faults, sizes, began, calm }
  } finally {
    await Chronicle.end(chronicle)
    await arena.close()
  }
}
