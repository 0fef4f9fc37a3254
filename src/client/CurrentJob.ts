/** What a handler can know of the job it runs. */
import * as Context from "effect/Context"
import type { JobId } from "../core/JobId.ts"
import type { ProgressInput } from "../core/Journal.ts"
import type { Parent } from "../core/Waits.ts"
import type { RecurringOrigin } from "./JobRecord.ts"
import type { Priority } from "../core/Priority.ts"

/** The job and the attempt that a handler runs for. */
export interface CurrentJob {
  /** The job's id: the same in all its attempts, so it can serve as an idempotency key. */
  readonly id: JobId
  /** Name of its definition. */
  readonly name: string
  /** Number of this attempt; counts from 1. */
  readonly attempt: number
  /** How often NATS has delivered the message this attempt runs for; above 1 after a lost server. */
  readonly delivery: number
  /** Queue it waited in. */
  readonly queue: string
  /** Its priority. */
  readonly priority: Priority
  /** When it was created. */
  readonly created: Date
  /** What travelled with it: what middleware put there, and the trace it belongs to. */
  readonly context: Readonly<Record<string, string>>
  /** When this attempt began. */
  readonly started: Date
  /** Id of the server that runs it. */
  readonly server: string
  /** The jobs that it follows, in the order in which they were named. */
  readonly parents: ReadonlyArray<Parent>
  /** The recurring entry that it is a run of, and its nominal time. */
  readonly recurring: RecurringOrigin | undefined
  /** What `Job.progress` calls: takes how far the attempt is, and neither waits nor throws. */
  report(progress: ProgressInput): void
}

/** What can be known of a job, without what can be done with it. */
export const factsOf = (job: CurrentJob): Omit<CurrentJob, "report"> => ({
  id: job.id,
  name: job.name,
  attempt: job.attempt,
  delivery: job.delivery,
  queue: job.queue,
  priority: job.priority,
  created: job.created,
  context: job.context,
  started: job.started,
  server: job.server,
  parents: job.parents,
  recurring: job.recurring,
})

/** The current job as a service; handlers have it without providing it. */
export const CurrentJob: Context.Service<CurrentJob, CurrentJob> = Context.Service<CurrentJob>(
  "portfire/client/CurrentJob",
)
