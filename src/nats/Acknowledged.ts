/**
 * What NATS has acknowledged to this process: up to which sequence, and a few messages of jobs. The
 * auditor holds it against what the streams have.
 */

/** A message that NATS has acknowledged. */
export interface Sample {
  readonly subject: string
  readonly sequence: number
}

/** Samples taken between two rounds of the auditor. */
const samplesPerRound = 16

const [zero, nine] = [48, 57]

/** See the module. */
export class Acknowledged {
  readonly #highest: Array<number> = []
  #samples: Array<Sample> = []
  #wanted = samplesPerRound

  /** Called for every acknowledgement, so it does next to nothing. */
  note(subject: string, sequence: number): void {
    // `pf.<ns>.<p>.…`; what isn't a partition's has no digit there.
    let at = subject.indexOf(".", subject.indexOf(".") + 1) + 1
    let partition = subject.charCodeAt(at) - zero
    if (!(partition >= 0 && partition <= 9)) return
    for (at++;; at++) {
      const code = subject.charCodeAt(at)
      if (!(code >= zero && code <= nine)) break
      partition = partition * 10 + code - zero
    }
    if (sequence > (this.#highest[partition] ?? 0)) this.#highest[partition] = sequence
    if (this.#wanted === 0) return
    this.#wanted--
    this.#samples.push({ subject, sequence })
  }

  /** The highest sequence of a partition's stream that was acknowledged; 0 for none. */
  highest(partition: number): number {
    return this.#highest[partition] ?? 0
  }

  /** What was acknowledged is no measure any more: the stream has begun anew. */
  forget(partition: number): void {
    this.#highest[partition] = 0
  }

  /** The samples since the last call. */
  take(): ReadonlyArray<Sample> {
    const taken = this.#samples
    this.#samples = []
    this.#wanted = samplesPerRound
    return taken
  }
}
