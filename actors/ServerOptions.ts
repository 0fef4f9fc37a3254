/** How a server is set up, checked before it touches anything. */
import * as Duration from "effect/Duration"
import {
  type ResolvedRetention,
  resolveRetention,
  type Retention,
} from "../src/client/Definition.ts"
import { InvalidOptions } from "../src/core/errors.ts"
import { checkKeys, checkName, show } from "../src/core/Names.ts"
import { millisOf } from "../src/core/Time.ts"
import type { Emit } from "./Event.ts"

/** Options of a server. */
export interface ServerOptions {
  /**
   * What it works on: queues with their own concurrency, `{ mail: 10, default: 50 }`, or queues in
   * strict order that share `concurrency`, `["critical", "default"]`.
   */
  readonly queues: Readonly<Record<string, number>> | ReadonlyArray<string>
  /** Attempts at once over all queues of a list; default 20. */
  readonly concurrency?: number | undefined
  /** Time that running attempts get when the server stops; default 30 seconds. */
  readonly gracePeriod?: Duration.Input | undefined
  /** Name for people, the first part of the server's id; default the host's name. */
  readonly name?: string | undefined
  /**
   * How long records are kept whose definitions don't say; default 24 hours, 100,000 records. It holds
   * for the whole namespace: the last server that was started with one has the last word.
   */
  readonly retention?: Retention | undefined
  /** Takes everything that happens; called synchronously. */
  readonly onEvent?: Emit | undefined
}

/** One pool of slots. */
export interface PoolSpec {
  readonly name: string
  readonly queues: ReadonlyArray<string>
  readonly slots: number
}

/** Options with their values checked and their defaults filled in. */
export interface Resolved {
  readonly pools: ReadonlyArray<PoolSpec>
  readonly graceMillis: number
  readonly name: string | undefined
  /** Only when the options say so: then it holds for the whole namespace. */
  readonly retention: ResolvedRetention | undefined
  readonly onEvent: Emit | undefined
}

const keys = ["queues", "concurrency", "gracePeriod", "name", "retention", "onEvent"]
const maxSlots = 100_000

const slotsOf = (field: string, value: unknown): number | InvalidOptions =>
  typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= maxSlots
    ? value
    : new InvalidOptions({
      field,
      value: show(value),
      reason: `concurrency is a whole number from 1 to ${maxSlots}`,
    })

const poolsOf = (
  { concurrency, queues }: ServerOptions,
): ReadonlyArray<PoolSpec> | InvalidOptions => {
  const list = Array.isArray(queues)
  const names: ReadonlyArray<string> = list ? queues : Object.keys(queues)
  if (names.length === 0 || new Set(names).size !== names.length) {
    return new InvalidOptions({
      field: "queues",
      value: show(names.join(", ")),
      reason: "a server works on one queue or more, each named once",
    })
  }
  for (const name of names) {
    const illegal = checkName(list ? "queues" : `queues.${name}`, name)
    if (illegal !== undefined) return illegal
  }
  if (list) {
    const slots = slotsOf("concurrency", concurrency ?? 20)
    return typeof slots === "number" ? [{ name: names.join("+"), queues: names, slots }] : slots
  }
  if (concurrency !== undefined) {
    return new InvalidOptions({
      field: "concurrency",
      value: show(concurrency),
      reason: "each queue has its own here; give queues as a list to share one",
    })
  }
  const pools: Array<PoolSpec> = []
  for (const [name, value] of Object.entries(queues as Readonly<Record<string, number>>)) {
    const slots = slotsOf(`queues.${name}`, value)
    if (typeof slots !== "number") return slots
    pools.push({ name, queues: [name], slots })
  }
  return pools
}

/** Checks options and fills in the defaults. */
export const resolve = (options: ServerOptions): Resolved | InvalidOptions => {
  if (typeof options.queues !== "object" || options.queues === null) {
    return new InvalidOptions({
      field: "queues",
      value: show(options.queues),
      reason: "queues are { name: concurrency } or a list of names, like { default: 20 }",
    })
  }
  const unknown = checkKeys("options", options, keys)
  if (unknown !== undefined) return unknown
  const pools = poolsOf(options)
  if (pools instanceof InvalidOptions) return pools
  const grace = millisOf("gracePeriod", options.gracePeriod ?? Duration.seconds(30))
  if (typeof grace !== "number") return grace
  const name = options.name === undefined ? undefined : checkName("name", options.name)
  if (name !== undefined) return name
  const retention = options.retention === undefined
    ? undefined
    : resolveRetention(options.retention)
  if (retention instanceof InvalidOptions) return retention
  return { pools, graceMillis: grace, name: options.name, retention, onEvent: options.onEvent }
}
