/** Stores the moves of many jobs in one pipeline, each on the condition of the message that was read. */
import * as Effect from "effect/Effect"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import type * as Records from "../nats/Records.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Moves from "./Moves.ts"

/** A job whose move is stored. */
export interface Moved {
  readonly message: Records.JobMessage
  readonly move: Moves.Move
  readonly sequence: number
}

/** Publishes moves in one pipeline. Gives what is stored, and whose jobs have moved on. */
export const publish = (
  wire: Wire,
  moves: ReadonlyArray<Omit<Moved, "sequence">>,
  patience: number,
): Effect.Effect<
  { readonly moved: ReadonlyArray<Moved>; readonly lost: ReadonlyArray<Records.JobMessage> },
  NatsError
> =>
  Effect.callback((resume) => {
    const moved: Array<Moved> = []
    const lost: Array<Records.JobMessage> = []
    let failure: Effect.Effect<never, NatsError> | undefined
    const inTime = moves.filter(({ message, move }) => {
      const isTooLate = Moves.isTooLate(wire, message, move)
      if (isTooLate) lost.push(message)
      return !isTooLate
    })
    let left = inTime.length
    const oneLess = () => {
      if (--left <= 0) resume(failure ?? Effect.succeed({ moved, lost }))
    }
    for (const { message, move } of inTime) {
      wire.publisher.publish({
        subject: move.subject,
        payload: move.payload,
        headers: move.headers,
        expected: message.stored.sequence,
        filter: wire.subjects.job(message.subject),
        patience,
      }, (ack) => {
        if (ack._tag === "Stored") moved.push({ message, move, sequence: ack.sequence })
        else if (ack._tag === "Conflict") lost.push(message)
        else failure = Conditional.failureOf(ack, move.subject) ?? failure
        oneLess()
      })
    }
    if (left === 0) oneLess()
  })
