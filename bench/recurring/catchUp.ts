/** What the first look at an entry costs that was due each second of a day in which nobody looked. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Client, Recurring } from "../../mod.ts"
import * as EntryMessage from "../../src/client/EntryMessage.ts"
import * as EntryStep from "../../src/client/EntryStep.ts"
import * as Entry from "../../src/core/Entry.ts"
import * as Wire from "../../src/nats/Wire.ts"
import { connectionTo } from "../portfire/engine.ts"
import { Tick } from "../portfire/recurring.ts"
import type { Arena } from "../support/arena.ts"
import { countMessages } from "../support/jobs.ts"

/** One look, by one rule for missed times. */
export interface CatchUp {
  readonly name: string
  readonly runs: number
  readonly millis: number
  /** Longest time in ms in which this process did nothing else. */
  readonly blockedMillis: number
}

const patience = 10_000
const outage = 86_400_000

/** The longest time between two turns of the event loop while something runs. */
const longestPause = async (run: () => Promise<unknown>): Promise<number> => {
  let last = performance.now()
  let longest = 0
  const turn = () => {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
  }
  const timer = setInterval(turn, 1)
  await run()
  turn()
  clearInterval(timer)
  return longest
}

/** Writes an entry whose alarm has fired after a day, and looks at it. */
const look = async (
  arena: Arena,
  name: string,
  misfire: Recurring.MisfireOption,
  expected: number,
): Promise<CatchUp> => {
  const world = arena.world()
  const runtime = ManagedRuntime.make(
    Layer.mergeAll(Client.layer, Wire.layer).pipe(Layer.provide(connectionTo(world))),
  )
  const wire = await runtime.runPromise(Wire.Wire)
  const id = "entry"
  const options = { job: Tick, schedule: "* * * * * *", timeZone: "Europe/Berlin", misfire }
  await runtime.runPromise(Recurring.upsert(id, options))
  const address = EntryMessage.addressOf(id)
  await runtime.runPromise(Effect.gen(function* () {
    const view = yield* EntryMessage.at(wire, address)
    if (view === undefined || !Entry.isReadable(view.state)) throw new Error("there is no entry")
    const state = {
      ...view.state,
      revision: view.state.revision + 1,
      cursor: wire.clock.now() - outage,
    }
    const message = EntryMessage.looked(wire, view, EntryMessage.bytesIn(view, state))
    yield* EntryMessage.write(wire, address, message, view.newest, patience)
  }))
  const step = EntryStep.make(wire, patience, { created: () => {}, queued: () => Effect.void })
  let millis = 0
  const blockedMillis = await longestPause(async () => {
    const start = performance.now()
    await runtime.runPromise(step(address))
    millis = performance.now() - start
  })
  const runs = await countMessages(world.connection, world.namespace, "ready.default")
  await runtime.dispose()
  await arena.clear(world)
  if (Math.abs(runs - expected) > 1) throw new Error(`${name}: ${runs} runs, not ${expected}`)
  return { name, runs, millis, blockedMillis }
}

/** All rules, the dearest one last. */
export const catchUp = async (arena: Arena): Promise<ReadonlyArray<CatchUp>> => [
  await look(arena, "once", "once", 1),
  await look(arena, "skip", "skip", 61),
  await look(arena, "all, 100 of them", "all", 100),
  // One look stores 500 runs; the next follows at once.
  await look(arena, "all, 1,000 of them", { policy: "all", cap: 1_000 }, 500),
]
