/**
 * Does an operation on all jobs that match a filter: page by page through the streams, the moves of a
 * page published in one pipeline, each on the condition of the message that was read. What somebody
 * else moved meanwhile is looked at again, by itself.
 *
 * It can be interrupted anywhere and done again, also twice at once: a job that was changed doesn't
 * match any more, or lies above the sequence up to which this goes.
 */
import * as Effect from "effect/Effect"
import type { NatsError } from "../nats/errors.ts"
import type { Wire } from "../nats/Wire.ts"
import { wireStates } from "./JobFilter.ts"
import type * as Operate from "./Operate.ts"
import { choose, makeRunning, type Request } from "./OperateChoice.ts"
import { finishAll } from "./OperateEnds.ts"
import { newestSequences, partitionsOf, scan } from "./OperatePages.ts"
import { type Doing, runRange } from "./OperateRange.ts"
import { type Memory, nothing, type Tally } from "./OperateTally.ts"

export type { Request } from "./OperateChoice.ts"
export { newestSequences } from "./OperatePages.ts"
export { type Memory, nothing, type Tally } from "./OperateTally.ts"

/** Rounds through waiting jobs that are made for those that change their state meanwhile. */
const maxRounds = 3

/** Finishes what an earlier run has begun: jobs that it cancelled and whose followers may wait. */
const finishEarlier = (
  context: Operate.Context,
  { cutoffs, filter: { group } }: Request,
  partition: number,
): Effect.Effect<void, NatsError> =>
  scan(
    context.wire,
    partition,
    { state: "cancelled", group },
    [(cutoffs[partition] ?? 0) + 1, Number.MAX_SAFE_INTEGER],
    ({ jobs }) =>
      finishAll(
        context,
        partition,
        jobs.map(({ stored: { sequence, subject: text }, subject: { group, id } }) => ({
          partition,
          group,
          id,
          subject: text,
          sequence,
        })),
      ),
  )

/** Does a request, and tells how many jobs it has met and changed. */
export const run: (
  context: Operate.Context,
  request: Request,
  memory?: Memory,
) => Effect.Effect<Tally, Operate.OperateError> = Effect.fnUntraced(function* (
  context,
  request,
  memory = { before: nothing, keep: () => {} },
) {
  const { wire } = context
  const { cutoffs, filter, operation } = request
  const tally: Tally = { ...memory.before }
  const doing: Doing = { context, request, running: makeRunning(wire), tally, keep: memory.keep }
  const isCancel = operation._tag === "cancel"
  const runPartition = Effect.fnUntraced(function* (partition: number) {
    if (isCancel) yield* finishEarlier(context, request, partition)
    let from = 1
    let to = cutoffs[partition] ?? 0
    for (let round = 1;; round++) {
      const before = tally.matched
      for (const state of wireStates(filter)) {
        const sequences = [from, to] as const
        yield* runRange(doing, { partition, state, sequences })
      }
      // What is cancelled stays so; what else was there may have moved on before it was met.
      if (!isCancel || round === maxRounds || tally.matched === before && round > 1) return
      from = to + 1
      to = (yield* newestSequences(wire))[partition] ?? 0
    }
  })
  yield* Effect.forEach(partitionsOf(wire), runPartition, { concurrency: 4, discard: true })
  return tally
})

/** How many jobs match that aren't newer than the request. Changes nothing. */
export const count: (wire: Wire, request: Request) => Effect.Effect<number, NatsError> = Effect
  .fnUntraced(function* (wire, request) {
    const { cutoffs, filter: { group, queue } } = request
    const running = makeRunning(wire)
    let total = 0
    for (const partition of partitionsOf(wire)) {
      const sequences = [1, cutoffs[partition] ?? 0] as const
      for (const state of wireStates(request.filter)) {
        yield* scan(
          wire,
          partition,
          { state, queue, group },
          sequences,
          Effect.fnUntraced(function* ({ jobs }) {
            const range = { partition, state, sequences }
            const { chosen } = yield* choose(wire, request, range, running, jobs)
            total += chosen.length
          }),
        )
      }
    }
    return total
  })
