/** The two servers and what they do, seen from outside: by their ledgers alone. */
import * as Effect from "effect/Effect"
import type { Kill } from "./account.ts"
import type { DemoFailed } from "./errors.ts"
import { ackWaitMillis } from "./jobs.ts"
import { Live, type Run } from "./live.ts"
import type { Task } from "./plan.ts"
import { count, many, type Screen, seconds } from "./screen.ts"
import { endedUnasked, type ServerProcess } from "./servers.ts"

/** Only a run that was just seen to begin, and that lasts a while, is certain to be under way. */
const freshMillis = 150
const longEnoughMillis = 300

/** What is to be seen. */
export interface Stage {
  readonly live: Live
  /** The servers that were not killed. */
  readonly survivors: () => ReadonlyArray<ServerProcess>
  /** Reads the ledgers, says whether there was news; fails when a server ended that nobody killed. */
  readonly look: Effect.Effect<boolean, DemoFailed>
  /** Whether a server runs a job, as far as {@link Stage.look} has seen. */
  readonly isBusy: () => boolean
  /** Kills a server that runs jobs, if there is one now; once. */
  readonly killOne: (tasks: ReadonlyMap<string, Task>) => Effect.Effect<void, DemoFailed>
  readonly kill: () => Kill | undefined
  /** Tells how far it has come. */
  readonly showProgress: (tasks: ReadonlyMap<string, Task>) => void
}

const bar = (done: number, total: number): string => {
  const width = 24
  const full = Math.floor(width * done / Math.max(1, total))
  return "█".repeat(full) + "░".repeat(width - full)
}

/** Watches these servers. */
export const make = (screen: Screen, servers: ReadonlyArray<ServerProcess>): Stage => {
  const live = new Live()
  let since: number | undefined
  let victim: ServerProcess | undefined
  let kill: Kill | undefined
  let cutOff: ReadonlyArray<Run> = []

  const survivors = () => servers.filter((server) => server !== victim)
  const runningIn = ({ name }: ServerProcess) => live.running(name)

  const look = Effect.suspend(() => {
    const dead = survivors().find((server) => server.hasEnded())
    let news = false
    for (const server of servers) {
      const entries = server.read()
      news ||= entries.length > 0
      live.add(server.name, entries)
    }
    return dead === undefined ? Effect.succeed(news) : Effect.fail(endedUnasked(dead))
  })

  const candidate = (tasks: ReadonlyMap<string, Task>): ServerProcess | undefined => {
    const now = Date.now()
    const isUnderWay = ({ began, job }: Run) =>
      now - began < freshMillis && (tasks.get(job)?.pauseMillis ?? 0) >= longEnoughMillis
    return servers.filter((server) => runningIn(server).some(isUnderWay))
      .sort((a, b) => runningIn(b).length - runningIn(a).length)[0]
  }

  const killOne = Effect.fnUntraced(function* (tasks: ReadonlyMap<string, Task>) {
    const chosen = victim === undefined ? candidate(tasks) : undefined
    if (chosen === undefined) return
    victim = chosen
    yield* chosen.kill
    const at = Date.now()
    yield* look
    kill = { server: live.servers.get(chosen.name) ?? chosen.name, at }
    cutOff = runningIn(chosen)
    const heirs = survivors().map(({ title }) => title).join(" and ")
    screen.line(
      `  ${
        screen.red("✗")
      } ${chosen.title} (process ${chosen.pid}) is killed by SIGKILL while it ` +
        `runs ${many(cutOff.length, "job")};`,
    )
    screen.line(
      `    ${heirs} gets what it held after ${ackWaitMillis / 1_000} s without a sign of life`,
    )
  })

  const tellReturn = () => {
    if (kill === undefined || cutOff.length === 0) return
    const { at, server } = kill
    const back = new Map<string, number>()
    for (const { began, job, server: by } of live.runs) {
      if (by !== server && began > at && !back.has(job)) back.set(job, began - at)
    }
    const delays = cutOff.map(({ job }) => back.get(job) ?? Infinity)
    const last = Math.max(...delays)
    if (last === Infinity) return
    const which = delays.length === 1 ? "the job" : `all ${count(delays.length)} jobs`
    screen.line(
      `  ${screen.green("✓")} ${which} cut off by the kill ${
        delays.length === 1 ? "runs" : "run"
      } ` +
        `again, ${seconds(last)} after it`,
    )
    cutOff = []
  }

  const showProgress = (tasks: ReadonlyMap<string, Task>) => {
    tellReturn()
    const { done, retrying, seen } = live
    const running = survivors().map((server) => runningIn(server).length).join(" + ")
    let delayed = 0
    since ??= performance.now()
    const elapsed = performance.now() - since
    for (const [id, { delayMillis }] of tasks) {
      if (delayMillis > elapsed && !seen.has(id)) delayed++
    }
    screen.progress(
      `  ${bar(done.size, tasks.size)}  ${count(done.size)} of ${count(tasks.size)}` +
        `   running ${running}   retrying ${retrying.size}   delayed ${delayed}` +
        `   ${seconds(elapsed)}`,
    )
  }

  return {
    live,
    survivors,
    look,
    isBusy: () => survivors().some((server) => runningIn(server).length > 0),
    killOne,
    kill: () => kill,
    showProgress,
  }
}
