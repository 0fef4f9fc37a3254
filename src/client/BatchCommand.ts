/**
 * Commands of the engine as members of a batch. They may follow any job that is being built with
 * them, members of nested batches and of the batch around included: one commit makes all of them real.
 */
import * as Effect from "effect/Effect"
import * as Envelope from "../core/Envelope.ts"
import * as MessagePack from "../core/MessagePack.ts"
import type * as Waits from "../core/Waits.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Links from "../nats/Links.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import { lane } from "./Command.ts"
import { JobNotFound } from "./JobRecord.ts"
import * as Moves from "./Moves.ts"

/** What is to be stored. */
export interface BatchCommand {
  readonly name: `_${string}`
  readonly payload: unknown
  /** Retention class of its record. */
  readonly retention: string | undefined
  /** What it follows, all of it staged; nothing of that ends before the commit. */
  readonly waits: Waits.Waits
}

/** Stores a command and links it to what it follows. */
export const store: (
  wire: Wire,
  address: Subjects.Address,
  command: BatchCommand,
  patience: number,
) => Effect.Effect<void, NatsError | JobNotFound> = Effect.fnUntraced(
  function* (wire, address, { name, payload, retention, waits }, patience) {
    const { clock, subjects } = wire
    const template = Envelope.template(name, Subjects.engineQueue, lane, { retention })
    yield* Conditional.publish(wire, address.partition, {
      subject: Moves.staged(subjects, address),
      payload: Envelope.freshWith(template, clock.now(), MessagePack.encode(payload), {
        ...Envelope.untouched,
        waits,
      }),
      headers: Moves.awaitLines(subjects, address, Moves.never),
      expected: 0,
      filter: subjects.job(address),
      patience,
    })
    yield* Effect.forEach(
      waits.parents,
      Effect.fnUntraced(function* ({ id }) {
        while (true) {
          const view = yield* JobView.find(wire, id)
          // Servers have given the batch up, and removed what was staged.
          if (view === undefined) return yield* new JobNotFound({ id })
          if (yield* Links.add(wire, view, address, patience)) return
        }
      }),
      { concurrency: 16, discard: true },
    )
  },
)
