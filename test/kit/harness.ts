/** Children that do what a test says, and a record of everything they and their supervisor did. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type * as ChildSpec from "../../actors/kit/ChildSpec.ts"
import type * as Report from "../../actors/kit/Report.ts"
import * as Supervisor from "../../actors/kit/Supervisor.ts"

/** Runs a test program on a clock that only the program moves. */
export const run = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>): Promise<A> =>
  Effect.runPromise(Effect.provide(Effect.scoped(effect), TestClock.layer()))

/** How a child's life can end by itself. */
export type End = "normal" | "failure" | "defect" | "interruption"

const ends: Record<End, Effect.Effect<void, Error>> = {
  normal: Effect.void,
  failure: Effect.fail(new Error("failed")),
  defect: Effect.die(new Error("died")),
  interruption: Effect.interrupt,
}

/** One test's children and record. */
export class World {
  /** `+a` for a child that has initialised, `-a` for one that has ended, in the order it happened. */
  log: Array<string> = []
  /** All reports of the supervisor and of those below it. */
  readonly reports: Array<Report.Report> = []
  readonly #lives = new Map<string, Deferred.Deferred<unknown, unknown>>()
  readonly #failures = new Map<string, number>()
  readonly #waiting = new Set<() => void>()

  /** Takes reports. */
  readonly onReport = (report: Report.Report): void => {
    this.reports.push(report)
    for (const check of [...this.#waiting]) check()
  }

  /** A child that lives until `end` is called for it. */
  child(id: string, spec: Partial<ChildSpec.ChildSpec> = {}): ChildSpec.ChildSpec {
    const start = Effect.gen({ self: this }, function* () {
      const failures = this.#failures.get(id) ?? 0
      if (failures > 0) {
        this.#failures.set(id, failures - 1)
        return yield* Effect.fail(new Error(`${id} can't start`))
      }
      const life = yield* Deferred.make<unknown, unknown>()
      yield* Effect.addFinalizer(() => Effect.sync(() => this.log.push(`-${id}`)))
      this.#lives.set(id, life)
      this.log.push(`+${id}`)
      return Deferred.await(life)
    })
    return { id, start, ...spec }
  }

  /** Ends the child's present life. */
  end(id: string, how: End | Effect.Effect<unknown, unknown> = "failure"): void {
    const life = this.#lives.get(id)
    if (life === undefined) throw new Error(`${id} has never lived`)
    Deferred.doneUnsafe(life, typeof how === "string" ? ends[how] : how)
  }

  /** Lets the next starts of the child fail. */
  failStarts(id: string, times: number): void {
    this.#failures.set(id, times)
  }

  /** The record since the last call, as one line. */
  took(): string {
    const line = this.log.join(" ")
    this.log = []
    return line
  }

  /** The reports so far as short lines. */
  told(): Array<string> {
    return this.reports.map(short)
  }

  /** Waits until the reports satisfy the predicate. */
  until(enough: (lines: ReadonlyArray<string>) => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const check = (): void => {
        if (!enough(this.told())) return
        this.#waiting.delete(check)
        resume(Effect.void)
      }
      this.#waiting.add(check)
      check()
      return Effect.sync(() => this.#waiting.delete(check))
    })
  }
}

const exitOf = (exit: Exit.Exit<unknown, unknown>): string =>
  exit._tag === "Success" ? "normal" : exit.cause.reasons.map((reason) => reason._tag).join("+")

const short = (report: Report.Report): string => {
  if (report._tag === "SupervisorStopped") return `${report.supervisor} ended: ${report.reason}`
  const at = `${report.supervisor}/${report.child}`
  switch (report._tag) {
    case "ChildStarted":
      return `${at} started`
    case "ChildRestarted":
      return `${at} restarted because of ${report.because}`
    case "ChildStartFailed":
      return `${at} ${report.restarting ? "restart" : "start"} failed: ${exitOf(report.exit)}`
    case "ChildTerminated":
      return `${at} terminated: ${exitOf(report.exit)}${report.restart ? ", restart" : ""}`
    case "ChildStopped":
      return `${at} stopped: ${exitOf(report.exit)}`
    case "ShutdownTimedOut":
      return `${at} abandoned after ${report.waited}`
    case "AbandonedChildEnded":
      return `${at} ended late: ${exitOf(report.exit)}`
    case "IntensityExceeded":
      return `${at} exceeded ${report.intensity} in ${report.period}`
  }
}

/** Waits until the supervisor has worked through what was in its mailbox, and what came of that. */
export const settle = (supervisor: Supervisor.Supervisor): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (let i = 0; i < 10; i++) {
      yield* Effect.ignore(supervisor.deleteChild("nobody"))
      yield* Effect.yieldNow
    }
  })

/** Starts a supervisor in a scope that the test closes itself. */
export const open = <const Specs extends ReadonlyArray<ChildSpec.ChildSpec>>(
  options: Supervisor.Options<Specs>,
): Effect.Effect<
  { readonly supervisor: Supervisor.Supervisor; readonly close: Effect.Effect<void> },
  unknown,
  Scope.Scope
> =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const supervisor = yield* Scope.provide(Supervisor.start(options), scope)
    return { supervisor, close: Scope.close(scope, Exit.void) }
  })
