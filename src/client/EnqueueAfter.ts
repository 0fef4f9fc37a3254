/** Stores one job that follows others. */
import * as Effect from "effect/Effect"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import { checkKeys } from "../core/Names.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Continuations from "./Continuations.ts"
import { type Definition, jobOptionKeys, type JobOptions } from "./Definition.ts"
import { transitionOf } from "./Engine.ts"
import type * as Interception from "./Interception.ts"
import type { JobNotFound } from "./JobRecord.ts"
import type * as Prepare from "./Prepare.ts"
import type { EnqueueError, Writer } from "./Writer.ts"

/** Stores a job that follows others and gives its id. */
export type EnqueueAfter = (
  definition: Definition,
  parents: JobId | ReadonlyArray<JobId>,
  payload: unknown,
  options?: JobOptions & Continuations.Following,
) => Effect.Effect<JobId, EnqueueError | JobNotFound>

/** Makes it for a namespace. */
export const make = (
  wire: Wire,
  writer: Writer,
  interception: Interception.Interception,
  prepare: ReturnType<typeof Prepare.make>,
): EnqueueAfter =>
  Effect.fnUntraced(
    function* (definition, parents, payload, options = {}) {
      const unknown = checkKeys("options", options, [
        ...jobOptionKeys,
        ...Continuations.followingKeys,
      ])
      if (unknown !== undefined) return yield* unknown
      const waits = Continuations.waitsOf(parents, options, payload)
      if (waits instanceof InvalidOptions) return yield* waits
      yield* writer.ensureQueue(Subjects.engineQueue)
      // Beside the first of its parents: in its stream its end and the child's release are ordered.
      const partition = Subjects.addressOf(waits.parents[0]?.id ?? "", wire.partitions).partition
      const rest = Continuations.withoutFollowing(options)
      const what = "a continuation"
      const { id, message, to } = yield* prepare(definition, payload, rest, {
        partition,
        field: "payload",
        what,
      })
      const address = { partition, group: Subjects.noGroup, id }
      const child = { address, queue: to.queue, lane: to.lane, message, waits }
      const move = yield* Continuations.store(wire, child, writer.patience)
      if (interception.isWatched(definition)) {
        const { name } = definition
        const { queue } = to
        interception.notify({ id, name, to: "awaiting", queue }, definition)
        const next = move === undefined ? undefined : transitionOf({ id, name, queue }, move)
        if (next !== undefined) interception.notify(next, definition)
      }
      return id
    },
  )
