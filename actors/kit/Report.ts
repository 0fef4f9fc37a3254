/**
 * What a supervisor tells about itself: one value for everything that happens to a child or to the
 * supervisor. A supervisor does nothing that no report tells of.
 *
 * @module
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Type } from "./ChildSpec.ts"

/** What all reports carry. */
export interface Base {
  /** Ids from the root of the tree down to the supervisor that reports, joined by `/`. */
  readonly supervisor: string
  /** When, in milliseconds since 1970. */
  readonly at: number
}

/** What the reports about one child carry. */
export interface OfChild extends Base {
  /** Id of the child. */
  readonly child: string
  /** Worker or supervisor. */
  readonly type: Type
}

/** A child has initialised for the first time, or because somebody asked for it. */
export interface ChildStarted extends OfChild {
  readonly _tag: "ChildStarted"
}

/** A child has initialised again, because it or a sibling it goes with had terminated. */
export interface ChildRestarted extends OfChild {
  readonly _tag: "ChildRestarted"
  /** Id of the child whose end caused the restart; the child's own under `oneForOne`. */
  readonly because: string
}

/** A child ended while initialising; what it had acquired is released. */
export interface ChildStartFailed extends OfChild {
  readonly _tag: "ChildStartFailed"
  /** How it ended. */
  readonly exit: Exit.Exit<unknown, unknown>
  /** True for a restart, which will be tried again at the cost of one more restart. */
  readonly restarting: boolean
}

/** A child ended by itself, not because the supervisor stopped it. */
export interface ChildTerminated extends OfChild {
  readonly _tag: "ChildTerminated"
  /** How it ended. */
  readonly exit: Exit.Exit<unknown, unknown>
  /** Whether that leads to a restart. False too if it was found dead while being stopped. */
  readonly restart: boolean
}

/** A child ended because the supervisor stopped it, within its time. */
export interface ChildStopped extends OfChild {
  readonly _tag: "ChildStopped"
  /** How it ended; a failure or defect here is one of its finalizers'. */
  readonly exit: Exit.Exit<unknown, unknown>
}

/** A child outlived its shutdown time. It is abandoned: its fiber may still be running. */
export interface ShutdownTimedOut extends OfChild {
  readonly _tag: "ShutdownTimedOut"
  /** Milliseconds the supervisor waited; 0 for `brutalKill`. */
  readonly waited: number
}

/** An abandoned child has ended after all; this can come after the supervisor's own end. */
export interface AbandonedChildEnded extends OfChild {
  readonly _tag: "AbandonedChildEnded"
  /** How it ended. */
  readonly exit: Exit.Exit<unknown, unknown>
}

/** More restarts were needed than allowed: the supervisor gives up, its parent decides. */
export interface IntensityExceeded extends OfChild {
  readonly _tag: "IntensityExceeded"
  /** Restarts allowed in the period. */
  readonly intensity: number
  /** The period in milliseconds. */
  readonly period: number
}

/** The supervisor has ended, after all its children. */
export interface SupervisorStopped extends Base {
  readonly _tag: "SupervisorStopped"
  /** Why: stopped from outside, a child failed to start, budget spent, or a defect of its own. */
  readonly reason: "shutdown" | "startFailed" | "intensityExceeded" | "defect"
}

/** Everything a supervisor tells. */
export type Report =
  | ChildStarted
  | ChildRestarted
  | ChildStartFailed
  | ChildTerminated
  | ChildStopped
  | ShutdownTimedOut
  | AbandonedChildEnded
  | IntensityExceeded
  | SupervisorStopped

/**
 * Takes reports. Called synchronously, in the order of events, so it must be quick; what it throws
 * is logged and otherwise ignored.
 */
export type Observer = (report: Report) => void

/** The supervisor a fiber runs under: where nested supervisors find their path and observers. */
export interface Parent {
  /** Path of the supervisor; empty outside of any. */
  readonly path: string
  /** Where its reports go; undefined outside of any. */
  readonly observe: Observer | undefined
}

/** The nearest supervisor above the current fiber. */
export const Parent: Context.Reference<Parent> = Context.Reference<Parent>(
  "portfire/actors/kit/Report/Parent",
  { defaultValue: () => ({ path: "", observe: undefined }) },
)

/** Whether an end is one that a supervisor's stop explains: success or nothing but interruption. */
export const isClean = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)

/** Whether a report tells of trouble, as opposed to orderly starts and stops. */
export const isTrouble = (report: Report): boolean => {
  switch (report._tag) {
    case "ChildStarted":
    case "ChildRestarted":
      return false
    case "ChildTerminated":
      return Exit.isFailure(report.exit)
    case "ChildStopped":
    case "AbandonedChildEnded":
      return !isClean(report.exit)
    case "SupervisorStopped":
      return report.reason !== "shutdown"
    default:
      return true
  }
}

/** A report as one line of text, without its cause. */
export const format = (report: Report): string => {
  if (report._tag === "SupervisorStopped") {
    return `supervisor ${report.supervisor} stopped (${report.reason})`
  }
  const child = `${report.type} ${report.supervisor}/${report.child}`
  switch (report._tag) {
    case "ChildStarted":
      return `${child} started`
    case "ChildRestarted":
      return `${child} restarted because of ${report.because}`
    case "ChildStartFailed":
      return `${child} failed to ${report.restarting ? "restart" : "start"}`
    case "ChildTerminated":
      return `${child} terminated, ${report.restart ? "to be restarted" : "not restarted"}`
    case "ChildStopped":
      return `${child} stopped`
    case "ShutdownTimedOut":
      return `${child} abandoned: it did not stop within ${report.waited} ms`
    case "AbandonedChildEnded":
      return `${child}, abandoned before, ended`
    case "IntensityExceeded":
      return `supervisor ${report.supervisor} gives up: ${report.child} needed more than ` +
        `${report.intensity} restarts in ${report.period} ms`
  }
}

/**
 * One observer out of a supervisor's own and the one it inherits; where there is neither, one that
 * logs trouble. What an observer throws is logged and does not keep the report from the other.
 */
export const combine = (
  own: Observer | undefined,
  inherited: Observer | undefined,
  context: Context.Context<never>,
): Observer => {
  const log = (text: string, cause: Cause.Cause<unknown>): void => {
    Effect.runForkWith(context)(Effect.logWarning(text, cause))
  }
  if (own === undefined) {
    return inherited ?? ((report) => {
      if (isTrouble(report)) log(format(report), causeOf(report))
    })
  }
  return (report) => {
    try {
      own(report)
    } catch (defect) {
      log(`the observer of ${report.supervisor} threw on: ${format(report)}`, Cause.die(defect))
    }
    inherited?.(report)
  }
}

const causeOf = (report: Report): Cause.Cause<unknown> =>
  "exit" in report && Exit.isFailure(report.exit) ? report.exit.cause : Cause.empty
