/**
 * Remembers which clients wait for which jobs, and tells them when these have ended. While nobody
 * waits, the end of a job costs nothing here and nothing is published.
 */
import * as Effect from "effect/Effect"
import type { JobId } from "../src/core/JobId.ts"
import * as Notices from "../src/nats/Notices.ts"
import type * as ChildSpec from "./kit/ChildSpec.ts"

/** Most jobs that are remembered; beyond it the one announced longest ago is forgotten. */
const mostJobs = 100_000

/** Most clients that are remembered for one job; the others read its record a little later. */
const mostClients = 1_000

interface Waiting {
  readonly client: string
  expires: number
}

/** Who waits for what. */
export class Interest {
  readonly #notify: (client: string, ids: ReadonlyArray<JobId>) => void
  /** The job that was announced longest ago comes first. */
  readonly #jobs = new Map<JobId, Array<Waiting>>()
  /** What each client is told at the end of this turn of the event loop. */
  readonly #notices = new Map<string, Array<JobId>>()

  constructor(notify: (client: string, ids: ReadonlyArray<JobId>) => void) {
    this.#notify = notify
  }

  /** How many jobs are waited for. */
  get size(): number {
    return this.#jobs.size
  }

  /** A client waits for jobs; `now` in milliseconds on the monotonic clock. */
  add(client: string, ids: ReadonlyArray<JobId>, now: number = performance.now()): void {
    const expires = now + Notices.interestMillis
    for (const id of ids) {
      const before = this.#jobs.get(id)
      const waiting = before?.filter((other) => other.client !== client && other.expires > now) ??
        []
      if (waiting.length >= mostClients) waiting.shift()
      waiting.push({ client, expires })
      this.#jobs.delete(id)
      this.#jobs.set(id, waiting)
    }
    this.expire(now)
    for (const id of this.#jobs.keys()) {
      if (this.#jobs.size <= mostJobs) return
      this.#jobs.delete(id)
    }
  }

  /** A job has ended: its record is stored. */
  ended(id: JobId): void {
    if (this.#jobs.size === 0) return
    const waiting = this.#jobs.get(id)
    if (waiting === undefined) return
    this.#jobs.delete(id)
    for (const { client } of waiting) {
      const notice = this.#notices.get(client)
      if (notice !== undefined) notice.push(id)
      else this.#notices.set(client, [id])
      if (notice === undefined && this.#notices.size === 1) queueMicrotask(() => this.#send())
    }
  }

  /** Forgets who hasn't said for a while that he still waits. */
  expire(now: number = performance.now()): void {
    for (const [id, waiting] of this.#jobs) {
      // Whoever announced it last is the last of its list, and no later job was announced before.
      if ((waiting.at(-1) as Waiting).expires > now) return
      this.#jobs.delete(id)
    }
  }

  #send(): void {
    for (const [client, ids] of this.#notices) this.#notify(client, ids)
    this.#notices.clear()
  }
}

/** Listens to what clients wait for, as a child of the server's supervisor. */
export const start = (interest: Interest, place: Notices.Place): ChildSpec.Start =>
  Effect.as(
    Effect.acquireRelease(
      Effect.sync(() => Notices.onInterest(place, (client, ids) => interest.add(client, ids))),
      (stop) => Effect.sync(stop),
    ),
    Effect.forever(
      Effect.andThen(
        Effect.sleep(Notices.interestMillis),
        Effect.sync(() => interest.expire()),
      ),
    ),
  )
