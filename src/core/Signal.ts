/**
 * What a handler or a middleware may say instead of ending with a result or an error. They travel as
 * defects, so that they don't widen the error type; who has to act on them recognises them by class.
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

/** A middleware refuses what it is around. */
export class Veto {
  /** Discriminator. */
  readonly _tag = "Veto"
  /** Why, for people. */
  readonly reason: string
  constructor(reason: string) {
    this.reason = reason
  }
}
