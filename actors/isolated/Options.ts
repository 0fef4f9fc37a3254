/** Options of an isolated job, checked. */
import type * as Duration from "effect/Duration"
import { availableParallelism } from "node:os"
import { InvalidOptions } from "../../src/core/errors.ts"
import { checkKeys, show } from "../../src/core/Names.ts"
import { millisOf } from "../../src/core/Time.ts"
import type { CrewOptions } from "./Crew.ts"
import type { Kind } from "./Protocol.ts"

/** How the workers of an isolated job are kept. */
export interface IsolatedOptions {
  /**
   * Most workers, each with one run at a time; default the number of processors. A queue with more
   * slots than that lets attempts wait for a worker, which their time limits don't count.
   */
  readonly workers?: number | undefined
  /** How long a worker may take to be ready; default 30 seconds. */
  readonly startWithin?: Duration.Input | undefined
  /** How long an interrupted run may take before its worker is killed; default 1 second. */
  readonly grace?: Duration.Input | undefined
  /** How long a worker is kept that has nothing to do; one always is. Default 1 minute. */
  readonly idle?: Duration.Input | undefined
  /**
   * Most megabytes of a worker's heap: a run that takes more has failed its attempt. Only for
   * processes, on Node and Deno; on Bun it does nothing, so let the machine limit it. Default that of
   * the runtime.
   */
  readonly memory?: number | undefined
}

const optionKeys: ReadonlyArray<string> = ["workers", "startWithin", "grace", "idle", "memory"]

const countOf = (
  field: string,
  value: number,
  least: number,
  most: number,
): number | InvalidOptions =>
  Number.isInteger(value) && value >= least && value <= most ? value : new InvalidOptions({
    field,
    value: show(value),
    reason: `it is a whole number from ${least} to ${most}`,
  })

/** An engine that has less can't even load a module. */
const leastMemory = 16

const memoryOf = (kind: Kind, value: number | undefined): number | undefined | InvalidOptions => {
  if (value === undefined || kind === "process") {
    return value === undefined ? undefined : countOf("memory", value, leastMemory, 1_000_000)
  }
  return new InvalidOptions({
    field: "memory",
    value: show(value),
    reason: "a thread that runs out of memory can take its process down; " +
      'only isolation "process" can limit it',
  })
}

const moduleOf = (module: unknown): URL | InvalidOptions => {
  const text = module instanceof URL || typeof module === "string" ? String(module) : ""
  const url = URL.canParse(text) ? new URL(text) : undefined
  return url?.protocol === "file:" ? url : new InvalidOptions({
    field: "module",
    value: show(module instanceof URL ? text : module),
    reason: 'it is the URL of a local file: new URL("./worker.ts", import.meta.url)',
  })
}

/** A day, which timers can count. */
const maxMillis = 86_400_000

const durationOf = (field: string, value: Duration.Input): number | InvalidOptions => {
  const millis = millisOf(field, value)
  return typeof millis !== "number" || millis <= maxMillis
    ? millis
    : new InvalidOptions({ field, value: show(value), reason: "it is longer than a day" })
}

/** What a crew needs, but for whom it tells. */
export const resolve = (
  job: string,
  kind: Kind,
  module: URL | string,
  options: IsolatedOptions,
): Omit<CrewOptions, "onCrowded"> | InvalidOptions => {
  const unknown = checkKeys("options", options, optionKeys)
  if (unknown !== undefined) return unknown
  const url = moduleOf(module)
  if (url instanceof InvalidOptions) return url
  const workers = countOf("workers", options.workers ?? availableParallelism(), 1, 1_000)
  if (typeof workers !== "number") return workers
  const memory = memoryOf(kind, options.memory)
  if (memory instanceof InvalidOptions) return memory
  const startMillis = durationOf("startWithin", options.startWithin ?? "30 seconds")
  if (typeof startMillis !== "number") return startMillis
  const graceMillis = durationOf("grace", options.grace ?? "1 second")
  if (typeof graceMillis !== "number") return graceMillis
  const idleMillis = durationOf("idle", options.idle ?? "1 minute")
  if (typeof idleMillis !== "number") return idleMillis
  return { kind, job, module: url, workers, memory, startMillis, graceMillis, idleMillis }
}
