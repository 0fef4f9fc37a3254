/**
 * Jobs that this process holds: each has a lease on its message, from the moment it arrives until its
 * outcome is committed or it is given back.
 *
 * Phases: `arriving` (not yet checked) → `waiting` (for a free slot) → `running` → `settled` (an
 * outcome waits for the committer) → released.
 */
import type * as Fiber from "effect/Fiber"
import { isolateFrom } from "../src/core/Limits.ts"
import * as Envelope from "../src/core/Envelope.ts"
import type { Delivered } from "../src/nats/Puller.ts"
import type { JobSubject } from "../src/nats/Subjects.ts"
import type { Journal } from "./Journal.ts"
import type { Transition } from "../src/client/Transition.ts"

/** Where a held job is. */
export type Phase = "arriving" | "waiting" | "running" | "settled"

/** A job that this process holds. */
export class Delivery {
  /** What NATS delivered. */
  readonly message: Delivered
  /** Its subject. */
  readonly subject: JobSubject
  /** Its bytes, decoded; a stand-in that keeps them where they can't be. */
  readonly envelope: Envelope.Envelope
  /** The same with what the handler is given decrypted, once it was and where it had to be. */
  unlocked: Envelope.Envelope | undefined
  /** Id of a key that is missing here to run it; `null` for none, `undefined` before that is known. */
  missingKey: string | null | undefined
  /** Why they can't be decoded. */
  readonly unreadable: Envelope.Unreadable | undefined
  /** Rank of its lane among those of the pool; lower is more urgent. */
  readonly rank: number
  /** Where it is. */
  phase: Phase = "arriving"
  /** When its lease was last renewed, on the monotonic clock. */
  renewed: number = performance.now()
  /** Whether its lease has run out since it was checked. */
  lapsed = false
  /** When it was checked, on the monotonic clock. */
  checked = 0
  /** Whether its message is superseded, so that nothing that comes of it counts. */
  voided = false
  /** Whether somebody may still run it, of whom NATS has lost sight. */
  suspect: boolean
  /** When its attempt began, in ms since 1970; 0 before. */
  started = 0
  /** The attempt, while it runs. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  /** What the attempt writes, once it has written something. */
  journal: Journal | undefined
  /** Whether its record is stored, and what follows from that is being seen to. */
  recorded = false
  /** What is to be written, once it is settled. */
  transition: Transition | undefined

  constructor(message: Delivered, subject: JobSubject, rank: number) {
    const decoded = Envelope.decode(message.data)
    this.message = message
    this.subject = subject
    this.rank = rank
    this.suspect = message.deliveries > 1
    this.unreadable = Envelope.isEnvelope(decoded) ? undefined : decoded
    this.envelope = Envelope.isEnvelope(decoded) ? decoded : Envelope.make({
      name: "",
      queue: subject.queue,
      lane: Math.min(4, Math.max(1, Number(subject.lane))),
      options: {},
      created: Date.now(),
      payload: message.data,
      progress: Envelope.untouched,
    })
  }

  /** Number of the attempt that this delivery is for. */
  get attempt(): number {
    const { attempts, earlier = 0 } = this.envelope.progress
    return earlier + attempts + 1
  }

  /** How often a server was lost that held the job, this delivery's own history included. */
  get lost(): number {
    return this.envelope.progress.lost + Math.max(0, this.message.deliveries - 1)
  }
  /** Whether it has lost so many servers that it runs alone in its process (W13). */
  get alone(): boolean {
    return this.lost >= isolateFrom
  }
}
