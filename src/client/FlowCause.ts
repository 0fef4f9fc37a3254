/** Why a workflow has no result: the job that everything after it was cancelled for. */
import * as Effect from "effect/Effect"
import type { FinalState } from "../core/JobState.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import { nextAtLeader } from "../nats/Reader.ts"
import { isRecord, type JobMessage } from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"

/** A member of a batch that has ended so; the first one in its stream. */
const memberOf = (
  { nats, subjects }: Wire,
  { id, partition }: Subjects.Address,
  state: FinalState,
): Effect.Effect<string | undefined, NatsError> =>
  Effect.map(
    nextAtLeader(
      nats.connection,
      Subjects.jobsStream(subjects.namespace, partition),
      subjects.members(partition, state, id),
      { seq: 1 },
    ),
    (found) => found === undefined ? undefined : subjects.parse(found.subject)?.id,
  )

/** The parent that a cancelled job was cancelled for: of any one that was needed, the last. */
const blocking = ({ envelope: { progress: { waits } } }: JobMessage): string | undefined => {
  const unmet = waits?.parents.filter(({ outcome }) =>
    outcome !== undefined && !waits.on.includes(outcome.state)
  )
  return (waits?.need === "any" ? unmet?.at(-1) : unmet?.[0])?.id
}

/**
 * Goes from a job that was cancelled to what it had waited for, up to one that has failed, or that was
 * cancelled for another reason; gives the record of the last one that there is.
 */
export const find: (wire: Wire, id: string) => Effect.Effect<JobMessage | undefined, NatsError> =
  Effect.fnUntraced(function* (wire, id) {
    const seen = new Set<string>()
    let last: JobMessage | undefined
    for (let next: string | undefined = id; next !== undefined && !seen.has(next);) {
      seen.add(next)
      const view: JobView.JobView | undefined = yield* JobView.find(wire, next)
      if (view === undefined) return last
      const { address, current }: JobView.JobView = view
      if (current.envelope.progress.batch !== undefined) {
        next = (yield* memberOf(wire, address, "failed")) ??
          (yield* memberOf(wire, address, "cancelled"))
        continue
      }
      // Somebody may have requeued it meanwhile.
      if (isRecord(current.subject) && current.subject.state !== "succeeded") last = current
      next = current.subject.state === "cancelled" ? blocking(current) : undefined
    }
    return last
  })
