/**
 * The workers of one isolated job: started when they are needed, kept warm, replaced when they die. A
 * worker has one run at a time; runs beyond their number wait.
 *
 *     starting -> idle <-> busy      a worker that dies is replaced in the background
 *
 * After a start that failed nothing is started for a while, longer each time; runs that wait while
 * there is no worker at all have failed with it.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { describe } from "../../src/core/Attempt.ts"
import type { ProgressInput } from "../../src/core/Journal.ts"
import type { End, FromWorker, Line, Order } from "./Protocol.ts"
import * as Vessel from "./Vessel.ts"

/** How a crew works. */
export interface CrewOptions extends Vessel.VesselOptions {
  /** Most workers. */
  readonly workers: number
  /** How long a worker may take to be ready, in ms. */
  readonly startMillis: number
  /** How long an interrupted run may take for its finalizers before its worker is killed, in ms. */
  readonly graceMillis: number
  /** How long a worker is kept that has nothing to do, in ms. */
  readonly idleMillis: number
  /** Told once that a run waits because all workers have one. */
  readonly onCrowded: () => void
}

/** What a run tells of itself. */
export interface Listener {
  /** A worker has it. */
  readonly begun: () => void
  readonly line: (line: Line) => void
  readonly progress: (value: ProgressInput) => void
}

/** Runs handlers elsewhere. */
export interface Crew {
  /** Runs the handler once. Interrupted, it ends the run, by killing its worker if need be. */
  readonly run: (order: Order, listener: Listener) => Effect.Effect<End>
  /** Starts a worker, to see that one can be started; gives why not. */
  readonly warmUp: Effect.Effect<string | undefined>
}

/** Least and longest pause after a start that failed, in ms. */
const leastPauseMillis = 500
const longestPauseMillis = 30_000

/** How long dead workers are waited for when the crew ends, in ms. */
const burialMillis = 2_000

type Given = Vessel.Vessel | string

const advice = "does its module call serve for this job?"

/** See the module. The crew's state is here and nowhere else; no fiber of its own. */
class Company {
  readonly #options: CrewOptions
  readonly #all = new Set<Vessel.Vessel>()
  /** Those with nothing to do, the one that worked last at the end. */
  readonly #idle: Array<{ readonly vessel: Vessel.Vessel; readonly since: number }> = []
  /** Who waits for a worker, in order. */
  readonly #waiting: Array<(given: Given) => void> = []
  #starting = 0
  #failures = 0
  #pause: ReturnType<typeof setTimeout> | undefined
  #closed = false
  #crowded = false
  #onLess: () => void = () => {}
  readonly #reaper: ReturnType<typeof setInterval>

  constructor(options: CrewOptions) {
    this.#options = options
    this.#reaper = setInterval(() => this.#reap(), Math.min(options.idleMillis, 10_000))
    this.#reaper.unref?.()
  }

  /** Gives a worker now or later; the function that it returns withdraws the wish. */
  take(give: (given: Given) => void): () => void {
    const spare = this.#idle.pop()
    if (spare !== undefined) {
      give(spare.vessel)
      return () => {}
    }
    this.#waiting.push(give)
    this.#grow()
    const busy = this.#all.size - this.#starting
    if (!this.#crowded && busy >= this.#options.workers) {
      this.#crowded = true
      this.#options.onCrowded()
    }
    return () => {
      const at = this.#waiting.indexOf(give)
      if (at >= 0) this.#waiting.splice(at, 1)
    }
  }

  /** A worker has nothing to do any more. */
  rest(vessel: Vessel.Vessel): void {
    vessel.onMessage = () => {}
    vessel.onEnd = () => this.lose(vessel)
    if (!vessel.isAlive) return
    const next = this.#waiting.shift()
    if (next !== undefined) next(vessel)
    else this.#idle.push({ vessel, since: performance.now() })
  }

  /** A worker has died. */
  lose(vessel: Vessel.Vessel): void {
    this.#forget(vessel)
    if (!this.#closed && this.#pause === undefined && this.#all.size < this.#options.workers) {
      this.#start()
    }
  }

  /** Lets idle workers end, ends all others, and tells when none is left, or after a while. */
  close(done: () => void): () => void {
    this.#closed = true
    clearInterval(this.#reaper)
    clearTimeout(this.#pause)
    const spare = new Set(this.#idle.map(({ vessel }) => vessel))
    for (const vessel of this.#all) {
      if (spare.has(vessel)) vessel.send({ _tag: "Close" })
      else vessel.kill()
    }
    const { graceMillis } = this.#options
    const killing = setTimeout(() => this.#all.forEach((vessel) => vessel.kill()), graceMillis)
    const end = () => {
      clearTimeout(killing)
      clearTimeout(leaving)
      done()
    }
    const leaving = setTimeout(end, graceMillis + burialMillis)
    this.#onLess = () => {
      if (this.#all.size === 0) end()
    }
    this.#onLess()
    return () => {
      clearTimeout(killing)
      clearTimeout(leaving)
    }
  }

  #forget(vessel: Vessel.Vessel): void {
    this.#all.delete(vessel)
    const at = this.#idle.findIndex((one) => one.vessel === vessel)
    if (at >= 0) this.#idle.splice(at, 1)
    this.#onLess()
  }

  #reap(): void {
    const before = performance.now() - this.#options.idleMillis
    // One stays, warm for what comes.
    while (this.#idle.length > 1 && (this.#idle[0]?.since ?? before) < before) {
      const { vessel } = this.#idle.shift() as { readonly vessel: Vessel.Vessel }
      const timer = setTimeout(() => vessel.kill(), this.#options.graceMillis)
      vessel.onEnd = () => {
        clearTimeout(timer)
        this.#forget(vessel)
      }
      vessel.send({ _tag: "Close" })
    }
  }

  /** Starts what is missing for those who wait. */
  #grow(): void {
    while (
      !this.#closed && this.#pause === undefined && this.#starting < this.#waiting.length &&
      this.#all.size < this.#options.workers
    ) this.#start()
  }

  #start(): void {
    const { kind, startMillis } = this.#options
    let vessel: Vessel.Vessel
    try {
      vessel = Vessel.start(this.#options)
    } catch (error) {
      return this.#fail(describe(error).message)
    }
    this.#all.add(vessel)
    this.#starting++
    let over = false
    const settle = (then: () => void) => {
      if (over) return
      over = true
      clearTimeout(timer)
      this.#starting--
      then()
    }
    let reason: string | undefined
    const giveUp = (why: string) => {
      reason ??= why
      vessel.kill()
    }
    const timer = setTimeout(
      () => giveUp(`it was not ready within ${startMillis} ms; ${advice}`),
      startMillis,
    )
    vessel.onEnd = ({ message }) => {
      this.#forget(vessel)
      const early = `its ${kind} ${message} before it was ready`
      settle(() => this.#fail(reason ?? (message.endsWith(" 0") ? `${early}; ${advice}` : early)))
    }
    vessel.onMessage = (message) => {
      if (message._tag === "NotReady") giveUp(message.message)
      else if (message._tag === "Ready" && reason === undefined) {
        settle(() => {
          this.#failures = 0
          this.rest(vessel)
        })
      }
    }
  }

  #fail(why: string): void {
    if (this.#closed) return
    const pause = Math.min(longestPauseMillis, leastPauseMillis * 2 ** this.#failures++)
    clearTimeout(this.#pause)
    this.#pause = setTimeout(() => {
      this.#pause = undefined
      if (this.#all.size === 0 && this.#waiting.length === 0) this.#start()
      else this.#grow()
    }, pause)
    this.#pause.unref?.()
    // A worker that is left, or about to be ready, gets to them.
    if (this.#all.size === 0) { for (const give of this.#waiting.splice(0)) give(why) }
  }
}

/** Makes a crew; its workers end with the scope. */
export const make = (options: CrewOptions): Effect.Effect<Crew, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { graceMillis } = options
    const company = yield* Effect.acquireRelease(
      Effect.sync(() => new Company(options)),
      (company) =>
        Effect.callback<void>((resume) => {
          const stop = company.close(() => resume(Effect.void))
          return Effect.sync(stop)
        }),
    )
    let runs = 0

    const run: Crew["run"] = (order, listener) =>
      Effect.callback<End>((resume) => {
        const run = ++runs
        let vessel: Vessel.Vessel | undefined
        let over = (end: End) => resume(Effect.succeed(end))
        const hear = (from: Vessel.Vessel, message: FromWorker) => {
          if (!("run" in message) || message.run !== run) return
          if (message._tag === "Progress") listener.progress(message.value)
          else if (message._tag === "Line") listener.line(message.line)
          else {
            company.rest(from)
            over(message.end)
          }
        }
        const begin = (given: Given) => {
          if (typeof given === "string") {
            const message = `its worker could not be started: ${given}`
            return over({ ending: "crashed", message })
          }
          vessel = given
          listener.begun()
          given.onMessage = (message) => hear(given, message)
          given.onEnd = (death) => {
            company.lose(given)
            over({
              ending: "crashed",
              message: `the ${options.kind} that ran it ${death.message}`,
              stack: death.stack,
            })
          }
          given.send({ _tag: "Run", run, order })
        }
        const withdraw = company.take(begin)
        return Effect.callback<void>((done) => {
          withdraw()
          if (vessel === undefined || !vessel.isAlive) return done(Effect.void)
          const { kill } = vessel
          const timer = setTimeout(() => kill.call(vessel), graceMillis)
          over = () => {
            clearTimeout(timer)
            done(Effect.void)
          }
          vessel.send({ _tag: "Interrupt", run })
        })
      })

    const warmUp = Effect.callback<string | undefined>((resume) => {
      const withdraw = company.take((given) => {
        if (typeof given === "string") return resume(Effect.succeed(given))
        company.rest(given)
        resume(Effect.succeed(undefined))
      })
      return Effect.sync(withdraw)
    })
    return { run, warmUp }
  })
