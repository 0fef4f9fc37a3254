/**
 * What a handler may say instead of ending with a result or an error. They travel as defects, so
 * that they don't widen the handler's error type; the worker recognises them by class.
 */

/** Never try this job again: it has failed for good, for this reason. */
export class Discard {
  /** Discriminator. */
  readonly _tag = "Discard"
  /** Kept in the job's record. */
  readonly reason: string
  constructor(reason: string) {
    this.reason = reason
  }
}

/** Try again after this many milliseconds, without counting this attempt. */
export class Snooze {
  /** Discriminator. */
  readonly _tag = "Snooze"
  /** Milliseconds. */
  readonly millis: number
  constructor(millis: number) {
    this.millis = millis
  }
}
