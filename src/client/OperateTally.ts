/** The numbers of an operation on many jobs, and how they are kept while it is done. */

/** How many jobs. */
export interface Tally {
  /** Met that match. */
  matched: number
  /** Changed. */
  changed: number
  /** Not changed, because they had moved on, or couldn't be changed. */
  conflicts: number
}

/** Where the numbers of a request are kept, for whoever goes on with it. */
export interface Memory {
  /** What was counted before. */
  readonly before: Readonly<Tally>
  /** Told after each page. */
  readonly keep: (tally: Readonly<Tally>) => void
}

/** Nothing was counted before. */
export const nothing: Readonly<Tally> = { matched: 0, changed: 0, conflicts: 0 }
