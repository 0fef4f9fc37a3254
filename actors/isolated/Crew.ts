/**
 * The workers of one isolated job: started when they are needed, kept warm, replaced when they end. A
 * worker has one run at a time; runs beyond their number wait.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { CurrentJob } from "../../src/client/CurrentJob.ts"
import type { End, FromWorker, JobFacts } from "./Protocol.ts"
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
}

/** Runs handlers elsewhere. */
export interface Crew {
  /** Runs the handler once. Interrupted, it ends the run, by killing its worker if need be. */
  readonly run: (payload: Uint8Array, job: CurrentJob) => Effect.Effect<End>
  /** Starts a worker, to see that one can be started; gives why not. */
  readonly warmUp: Effect.Effect<string | undefined>
}

const factsOf = (job: CurrentJob): JobFacts => ({
  id: job.id,
  name: job.name,
  attempt: job.attempt,
  delivery: job.delivery,
  queue: job.queue,
  priority: job.priority,
  created: job.created,
  context: { ...job.context },
  started: job.started,
  server: job.server,
  parents: job.parents.map((parent) => ({ ...parent })),
  recurring: job.recurring,
})

const crashed = (message: string): End => ({ _tag: "Crashed", message })

/** Makes a crew; its workers end with the scope. */
export const make = (options: CrewOptions): Effect.Effect<Crew, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { graceMillis, idleMillis, startMillis, workers } = options
    const slots = Semaphore.makeUnsafe(workers)
    const all = new Set<Vessel.Vessel>()
    /** Those with nothing to do, the one that worked last at the end. */
    const idle: Array<{ readonly vessel: Vessel.Vessel; readonly since: number }> = []
    let runs = 0
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        clearInterval(reaper)
        for (const vessel of all) vessel.kill()
      })
    )
    const reaper = setInterval(() => {
      // One stays, warm for what comes.
      while (idle.length > 1 && performance.now() - (idle[0]?.since ?? 0) > idleMillis) {
        idle.shift()?.vessel.kill()
      }
    }, Math.min(idleMillis, 10_000))
    reaper.unref?.()

    /** A worker that is ready, or why there is none. */
    const start = Effect.callback<Vessel.Vessel | string>((resume) => {
      const vessel = Vessel.start(options)
      all.add(vessel)
      const give = (result: Vessel.Vessel | string) => {
        clearTimeout(timer)
        resume(Effect.succeed(result))
      }
      const giveUp = (why: string) => {
        vessel.kill()
        give(why)
      }
      const timer = setTimeout(
        () => giveUp(`its module was not ready within ${startMillis} ms; does it call serve?`),
        startMillis,
      )
      vessel.onEnd = (reason) => {
        all.delete(vessel)
        give(reason)
      }
      vessel.onMessage = (message) => {
        if (message._tag === "Ready") give(vessel)
        else if (message._tag === "NotReady") giveUp(message.message)
      }
      return Effect.sync(() => {
        clearTimeout(timer)
        vessel.kill()
      })
    })

    const rest = (vessel: Vessel.Vessel) => {
      vessel.onMessage = () => {}
      vessel.onEnd = () => {
        all.delete(vessel)
        const at = idle.findIndex((one) => one.vessel === vessel)
        if (at >= 0) idle.splice(at, 1)
      }
      if (vessel.isAlive) idle.push({ vessel, since: performance.now() })
    }

    const converse = (
      vessel: Vessel.Vessel,
      payload: Uint8Array,
      job: CurrentJob,
    ): Effect.Effect<End> =>
      Effect.contextWith((services) =>
        Effect.callback<End>((resume) => {
          const run = ++runs
          let onEnded: (end: End) => void = (end) => {
            rest(vessel)
            resume(Effect.succeed(end))
          }
          const say = (message: FromWorker & { readonly _tag: "Line" }) => {
            const { annotations, level, text } = message
            const line = Effect.annotateLogs(Effect.logWithLevel(level)(text), annotations)
            Effect.runForkWith(services)(line)
          }
          vessel.onEnd = (reason) => {
            all.delete(vessel)
            onEnded(crashed(reason))
          }
          vessel.onMessage = (message) => {
            if (!("run" in message) || message.run !== run) return
            if (message._tag === "Ended") onEnded(message.end)
            else if (message._tag === "Progress") job.report(message.value)
            else say(message)
          }
          vessel.send({ _tag: "Run", run, payload, job: factsOf(job) })
          return Effect.callback<void>((done) => {
            const timer = setTimeout(() => vessel.kill(), graceMillis)
            onEnded = () => {
              clearTimeout(timer)
              rest(vessel)
              done(Effect.void)
            }
            if (vessel.isAlive) vessel.send({ _tag: "Interrupt", run })
            else onEnded(crashed(""))
          })
        })
      )

    const ready = Effect.suspend(() => {
      const last = idle.pop()
      return last === undefined ? start : Effect.succeed(last.vessel)
    })

    return {
      run: (payload, job) =>
        slots.withPermits(1)(
          Effect.flatMap(
            ready,
            (vessel) =>
              typeof vessel === "string"
                ? Effect.succeed(crashed(`its worker could not be started: ${vessel}`))
                : converse(vessel, payload, job),
          ),
        ),
      warmUp: slots.withPermits(1)(
        Effect.map(ready, (vessel) => {
          if (typeof vessel === "string") return vessel
          rest(vessel)
          return undefined
        }),
      ),
    }
  })
