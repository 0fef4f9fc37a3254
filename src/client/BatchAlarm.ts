/**
 * The alarm of a batch, by which a server goes on with what somebody has begun and left, be it a
 * batch that was never committed, members on their way, or an end that nobody has seen.
 */
import * as Effect from "effect/Effect"
import * as BatchState from "../core/BatchState.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import type * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import type { Look } from "./BatchEnd.ts"
import type { BatchGiveUp } from "./BatchGiveUp.ts"
import { type BatchMessage, isLive, stateOf } from "./BatchMessage.ts"
import type { Release } from "./BatchRelease.ts"
import { type BatchStaged, isOpen } from "./BatchStaged.ts"
import type { Finish } from "./Finish.ts"

/** What a server does when the alarm of a batch has fired. */
export type Tick = (batch: Subjects.Address) => Effect.Effect<void, NatsError>

/** What the alarm may lead to. */
interface Parts {
  readonly message: BatchMessage
  readonly staged: BatchStaged
  readonly look: Look
  readonly release: Release
  readonly giveUpAddition: BatchGiveUp["giveUpAddition"]
  /** Sees to what follows from the end of a batch. */
  readonly finish: () => Finish
}

/** Makes it for a namespace. */
export const make = (
  wire: Wire,
  { finish, giveUpAddition, look, message: { update }, release, staged }: Parts,
): Tick => {
  const { alarmMillis, clock } = wire
  const { purge, removeAbandoned } = staged

  const tick: Tick = Effect.fnUntraced(function* (batch) {
    const view = yield* JobView.at(wire, batch)
    if (view === undefined) return
    if (!isLive(view)) return yield* finish().finish(view.current)
    // Whoever added to it, or held it open, has been silent for too long.
    let taken: number | undefined
    yield* update(batch, (state) => {
      const now = clock.now()
      taken = undefined
      if (state.heldUntil > now) return undefined
      if (state.phase === "adding") {
        taken = state.generation + 1
        return BatchState.adopted(BatchState.givenUp(state), now + alarmMillis)
      }
      return state.phase === "building" || state.heldUntil > 0
        ? BatchState.givenUp(state)
        : undefined
    })
    const now = yield* JobView.at(wire, batch)
    const state = now === undefined || !isLive(now) ? undefined : stateOf(now)
    if (state === undefined) return
    if (state.phase === "abandoned") return yield* removeAbandoned(batch)
    if (state.phase === "releasing") return yield* release(batch)
    if (taken !== undefined) yield* giveUpAddition(batch, taken)
    if (state.phase === "open") {
      yield* purge(batch, isOpen)
      yield* look(batch)
    }
    // Its alarm again, for it may live on.
    yield* update(batch, (state) => state)
  })

  return tick
}
