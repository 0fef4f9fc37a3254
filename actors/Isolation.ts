/**
 * Lets a job that keeps losing its servers run alone in its process (W13), so that it takes no other
 * job with it again and the blame is clear. A lease that is lost counts whether its job ran or only
 * waited, so the process doesn't even hold another job then. One per server, shared by all its pools.
 */

/**
 * Longest time that a job waits for the process to be empty, and keeps others from starting. After it
 * the job starts beside jobs that take long, but never beside another isolated one, so that the blame
 * stays clear.
 */
const patienceMillis = 30_000

interface Wish {
  readonly job: object
  readonly since: number
  readonly timer: ReturnType<typeof setTimeout>
}

/** Counts what is held, and keeps everything else from starting around an isolated job. */
export class Isolation {
  #held = 0
  #wish: Wish | undefined
  /** The job that runs alone. */
  #alone: object | undefined
  #closedAt = 0
  readonly #listeners = new Set<() => void>()

  /** Whether ordinary jobs may be fetched and start now. */
  get open(): boolean {
    return this.#alone === undefined && this.#wish === undefined
  }

  /** How long it has been closed, in milliseconds; 0 while it is open. */
  get closedMillis(): number {
    return this.open ? 0 : performance.now() - this.#closedAt
  }

  /** A job is held by this process, or asked for: it may be on its way. */
  hold(): void {
    this.#held++
  }

  /** A job is held no longer, or none is asked for any more. */
  release(): void {
    this.#held--
    if (this.#held === 1 && this.#wish !== undefined) this.#changed()
  }

  /** Asks for the process, which must be open; until the job starts or is forgotten it is closed. */
  want(job: object): void {
    const timer = setTimeout(() => this.#changed(), patienceMillis)
    if (this.open) this.#closedAt = performance.now()
    this.#wish = { job, since: performance.now(), timer }
    this.#changed()
  }

  /** Whether this job has asked for the process and waits for it. */
  isWanted(job: object): boolean {
    return this.#wish?.job === job
  }

  /** Whether the job that has asked may start now. */
  get granted(): boolean {
    return this.#wish !== undefined &&
      (this.#held === 1 || performance.now() - this.#wish.since >= patienceMillis)
  }

  /** A job starts. */
  enter(job: object): void {
    if (this.#withdraw(job)) this.#alone = job
  }

  /** A job has ended. */
  leave(job: object): void {
    if (this.#alone !== job) return
    this.#alone = undefined
    this.#changed()
  }

  /** A job that asked will not start after all. */
  forget(job: object): void {
    if (this.#withdraw(job)) this.#changed()
  }

  /** Calls back whenever something may start that could not before, or must not wait here longer. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #withdraw(job: object): boolean {
    if (this.#wish?.job !== job) return false
    clearTimeout(this.#wish.timer)
    this.#wish = undefined
    return true
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
  }
}
