/**
 * Ids of what belongs to a recurring entry, told by the entry's own id: whoever makes them makes the
 * same ones.
 */
import { hashDigits } from "./DerivedId.ts"
import { encodeTime, type JobId } from "./JobId.ts"

/** Partition of all entries and of their runs: the one that is always there. */
export const partition = 0

/** Id under which an entry's message lies. */
export const messageId = (entry: string): JobId =>
  `0${hashDigits(`${entry}\n1`, 12)}${hashDigits(`${entry}\n2`, 12)}${partition}`

/** Id of the run of an entry for a nominal time, in ms since 1970. */
export const runId = (entry: string, at: number): JobId =>
  `${encodeTime(at)}${hashDigits(`${entry}\n3`, 12)}${hashDigits(`${entry}\n4`, 3)}${partition}`
