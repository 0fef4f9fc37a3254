/**
 * Lets a job that keeps losing its servers run alone in its process (W13), so that it takes no other
 * job with it again and the blame is clear. One per server, shared by all its pools.
 */

/**
 * Longest time that a job waits for the process to be empty, and keeps others from starting. After it
 * the job starts beside jobs that take long, but never beside another isolated one, so that the blame
 * stays clear.
 */
const patienceMillis = 30_000

/** Counts what runs, and keeps everything else from starting around an isolated job. */
export class Isolation {
  #running = 0
  #alone = 0
  readonly #wanting: Map<object, { since: number; timer: ReturnType<typeof setTimeout> }> =
    new Map()
  readonly #listeners = new Set<() => void>()

  /** Whether an ordinary job may start now. */
  get open(): boolean {
    return this.#alone === 0 && this.#wanting.size === 0
  }

  /** Asks for the process. While anybody asks, nothing ordinary starts. */
  want(job: object): void {
    if (this.#wanting.has(job)) return
    const timer = setTimeout(() => this.#changed(), patienceMillis)
    this.#wanting.set(job, { since: performance.now(), timer })
  }

  /** Whether this job, having asked, may start now. */
  mayStartAlone(job: object): boolean {
    const wish = this.#wanting.get(job)
    return wish !== undefined && this.#alone === 0 &&
      (this.#running === 0 || performance.now() - wish.since >= patienceMillis)
  }

  /** A job starts. */
  enter(job: object): void {
    this.#running++
    if (this.#withdraw(job)) this.#alone++
  }

  /** A job has ended. */
  leave(alone: boolean): void {
    this.#running--
    if (alone) this.#alone--
    if (this.#running === 0 || alone) this.#changed()
  }

  /** A job that asked will not start after all. */
  forget(job: object): void {
    if (this.#withdraw(job)) this.#changed()
  }

  /** Calls back whenever something may start that could not before; gives the way to stop that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #withdraw(job: object): boolean {
    clearTimeout(this.#wanting.get(job)?.timer)
    return this.#wanting.delete(job)
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
  }
}
