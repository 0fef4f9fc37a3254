/**
 * Makes the jobs of a workflow: members of one batch, that follow each other. What is known before
 * anything runs is jobs at once; where the number of jobs depends on a result, there is a nested batch
 * with a command of the engine that fills it, and another one that follows it.
 */
import * as Effect from "effect/Effect"
import { InvalidOptions } from "../core/errors.ts"
import { type JobId, partitionOf } from "../core/JobId.ts"
import type { FinalState } from "../core/JobState.ts"
import { checkKeys } from "../core/Names.ts"
import * as Retention from "../nats/Retention.ts"
import type * as Records from "../nats/Records.ts"
import type { Wire } from "../nats/Wire.ts"
import type { BatchError, Batching, BatchOptions, Builder } from "./BatchBuilder.ts"
import { jobOptionKeys, type JobOptions } from "./Definition.ts"
import * as FlowCause from "./FlowCause.ts"
import { definitions, type Layout, type Plan, type Share, success } from "./FlowPlan.ts"
import { elementClass, type Fan, fanName, type Gather, gatherName, joinName } from "./FlowSteps.ts"
import * as JobOutcome from "./JobOutcome.ts"
import * as JobRecord from "./JobRecord.ts"
import { parentResult, parentResults } from "./Prepare.ts"
import type * as Prepare from "./Prepare.ts"
import { unlock } from "./Unlock.ts"
import type { Timing } from "./Writer.ts"

/** A workflow that was stored. */
export interface Handle {
  /** The batch of all its jobs: to cancel it, to see how far it is, to let jobs follow its end. */
  readonly batch: JobId
  /** The job whose result is the workflow's. */
  readonly result: JobId
  /**
   * The batches of the jobs that are made of elements, one for each such list, in the order in which
   * they stand in the workflow: to see how many elements are done. Each of them has one more member.
   */
  readonly each: ReadonlyArray<JobId>
}

/** Stores workflows and reads what has come of them. */
export interface Flows {
  /** Stores a workflow in one step. */
  readonly enqueue: (plan: Plan, options: BatchOptions) => Effect.Effect<Handle, BatchError>
  /** What its result's final message says; of one that failed, the error of the job that did. */
  readonly outcome: (
    plan: Plan,
    result: Records.JobMessage,
  ) => Effect.Effect<
    unknown,
    unknown
  >
}

/** The records of elements are there for their list, which may take as long as this to complete. */
const elementRetention: Retention.Setting = {
  name: "elements of workflows",
  ageMillis: 7 * 24 * 3_600_000,
  count: 10_000_000,
}

/** What the first jobs of a part follow that runs only when another one has not succeeded. */
interface Gate {
  readonly parent: JobId
  readonly on: ReadonlyArray<FinalState>
}

/** Of the engine's own jobs, which have no typed errors. */
const untyped: JobRecord.Decoders<unknown, unknown, unknown> = {
  ...JobRecord.plainDecoders,
  error: { decode: () => Effect.fail({ path: "", reason: "none is expected" }) },
}

const stepKeys: ReadonlyArray<string> = [...jobOptionKeys, "delay"]

/** Makes it for a namespace. */
export const make = (
  wire: Wire,
  batching: Batching,
  prepare: ReturnType<typeof Prepare.make>,
): Flows => {
  let announced = false

  const optionsOf = (
    options: unknown = {},
  ): Effect.Effect<JobOptions & Pick<Timing, "delay">, InvalidOptions> => {
    const unknown = checkKeys("options", options, stepKeys)
    return unknown === undefined ? Effect.succeed(options as JobOptions) : Effect.fail(unknown)
  }

  /** Adds the jobs of a plan to a batch; each part gives the job that has its result. */
  const compiler = (builder: Builder, each: Array<JobId>) => {
    const partition = partitionOf(builder.id)
    const shared = new Map<Share["use"], JobId>()

    /** The jobs whose results make the result of a plan, and how they do. */
    const leaves = Effect.fnUntraced(function* (
      plan: Plan,
      gate: Gate | undefined,
      ids: Array<JobId>,
    ): Effect.fn.Return<Layout, BatchError> {
      if (plan._tag !== "All") {
        const id = yield* one(plan, gate)
        const known = ids.indexOf(id)
        return known >= 0 ? known : ids.push(id) - 1
      }
      const { parts } = plan
      if (Array.isArray(parts)) {
        return yield* Effect.forEach(
          parts as ReadonlyArray<Plan>,
          (part) => leaves(part, gate, ids),
        )
      }
      const entries: Array<readonly [string, Layout]> = []
      for (const [key, part] of Object.entries(parts)) {
        entries.push([key, yield* leaves(part, gate, ids)])
      }
      return Object.fromEntries(entries)
    })

    /** One job that has the result of a plan. */
    const one = Effect.fnUntraced(function* (
      plan: Plan,
      gate: Gate | undefined,
    ): Effect.fn.Return<JobId, BatchError> {
      switch (plan._tag) {
        case "Root": {
          const options = yield* optionsOf(plan.options)
          return yield* gate === undefined
            ? builder.add(plan.definition, plan.payload, options)
            : builder.addAfter([gate.parent], plan.definition, plan.payload, {
              ...options,
              on: gate.on,
            })
        }
        case "Then": {
          const options = yield* optionsOf(plan.options)
          const ids: Array<JobId> = []
          const layout = yield* leaves(plan.self, gate, ids)
          if (layout === 0) {
            return yield* builder.addAfter(ids, plan.definition, parentResult, options)
          }
          const isList = Array.isArray(layout) && layout.length > 0 &&
            layout.every((part, index) => part === index)
          const parents = isList ? ids : [yield* join(ids, layout, gate)]
          const input = isList ? parentResults : parentResult
          return yield* builder.addAfter(parents, plan.definition, input, options)
        }
        case "Each": {
          const { delay, ...options } = yield* optionsOf(plan.options)
          if (!announced) yield* Retention.publish(wire, elementClass, elementRetention)
          announced = true
          const parent = yield* one(plan.self, gate)
          const { message, to: { lane, queue } } = yield* prepare(
            plan.definition,
            parentResult,
            options,
            { partition, field: "payload", retention: elementClass, what: "a workflow" },
          )
          let fan: JobId = parent
          const batch = yield* builder.addBatch(
            { description: `each ${plan.definition.name}` },
            (inner) => {
              const content: Fan = { job: message, queue, lane, batch: inner.id, group: builder.id }
              return Effect.map(
                inner.addCommand([parent], fanName, content, { delay }),
                (id) => void (fan = id),
              )
            },
          )
          each.push(batch)
          const content: Gather = { queue, batch }
          return yield* builder.addCommand([fan, batch], gatherName, content)
        }
        case "All": {
          const ids: Array<JobId> = []
          return yield* join(ids, yield* leaves(plan, gate, ids), gate)
        }
        case "Share": {
          shared.set(plan.use, yield* one(plan.self, gate))
          return yield* one(plan.body, gate)
        }
        case "Shared": {
          const id = shared.get(plan)
          if (id !== undefined) {
            if (gate === undefined) return id
            // It has been made outside of what the gate lets through: here both have to be there.
            const open = yield* join([], [], gate)
            return yield* join([id, open], 0, undefined)
          }
          return yield* new InvalidOptions({
            field: "flow",
            value: "a shared part",
            reason: "it is used outside of the function that Flow.share gave it to",
          })
        }
        case "OrElse": {
          const self = yield* one(plan.self, gate)
          const that = yield* one(plan.that, { parent: self, on: ["failed", "cancelled"] })
          return yield* builder.addCommand([self, that], joinName, { layout: null }, {
            need: "any",
          })
        }
      }
    })

    const join = (
      ids: ReadonlyArray<JobId>,
      layout: Layout,
      gate: Gate | undefined,
    ): Effect.Effect<JobId, BatchError> =>
      ids.length > 0 || gate === undefined
        ? builder.addCommand(ids, joinName, { layout })
        : builder.addCommand([gate.parent], joinName, { layout }, { on: gate.on })

    return one
  }

  return {
    enqueue: Effect.fnUntraced(function* (plan, options) {
      let result: JobId = ""
      const each: Array<JobId> = []
      const batch = yield* batching.create(
        options,
        (builder) =>
          Effect.map(compiler(builder, each)(plan, undefined), (id) => void (result = id)),
      )
      return { batch, result, each }
    }),
    outcome: Effect.fnUntraced(function* (plan, locked) {
      const result = yield* unlock(wire.encryption, locked)
      const { id, state } = result.subject
      if (state === "succeeded") {
        return yield* JobOutcome.fromMessage(result, { ...untyped, success: success(plan) })
      }
      const found = state === "failed" ? undefined : yield* FlowCause.find(wire, id)
      const cause = found === undefined ? result : yield* unlock(wire.encryption, found)
      const definition = definitions(plan).get(cause.envelope.name)
      return yield* JobOutcome.fromMessage(cause, definition ?? untyped)
    }),
  }
}
