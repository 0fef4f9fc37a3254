/**
 * Removes the records of ended jobs that are past their retention. Every server has one; a round is
 * made by whichever of them gets the claim for it, for the records of all servers.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { commonRetention } from "../src/client/Definition.ts"
import * as Retention from "../src/nats/Retention.ts"
import { commonRetention as commonClass } from "../src/nats/Subjects.ts"
import type { Wire } from "../src/nats/Wire.ts"
import type { Emit } from "./Event.ts"
import type * as ChildSpec from "./kit/ChildSpec.ts"

/** What a janitor works with. */
export interface Options {
  readonly wire: Wire
  /** Gets `RecordsPurged` for every partition from which a round removed something. */
  readonly emit: Emit
  /**
   * What this server knows of retentions, by retention class; published at its start. The common
   * class belongs here only if this server was told: the last server to start has the last word.
   */
  readonly retentions: Retention.Settings
  /** The ack wait of the namespace's consumers, in ms. */
  readonly ackWaitMillis: number
  /** Time between two rounds; default one minute. */
  readonly interval?: Duration.Input | undefined
}

/** A claim ends before the next round, so that any server can have it; NATS counts in seconds. */
const claimSeconds = (interval: Duration.Input): number =>
  Math.max(1, Math.floor(Duration.toSeconds(interval) * 0.8))

/**
 * The janitor of a server, as a child of its supervisor. Nobody else waits for it, so it doesn't fail
 * when NATS is away: what a round couldn't do is done by a later one.
 */
export const start = (options: Options): ChildSpec.Start => {
  const { ackWaitMillis, emit, interval = "1 minute", retentions, wire } = options
  const publish = Effect.forEach(
    retentions,
    ([retentionClass, setting]) => Retention.publish(wire, retentionClass, setting),
    { concurrency: 16, discard: true },
  )
  const clean = Effect.gen(function* () {
    if (!(yield* Retention.claim(wire, claimSeconds(interval)))) return
    const settings: Retention.Settings = new Map([
      [commonClass, { name: "", ...commonRetention }],
      ...yield* Retention.published(wire),
    ])
    for (let partition = 0; partition < wire.partitions; partition++) {
      const count = yield* Retention.purge(wire, partition, settings, ackWaitMillis)
      if (count > 0) emit({ _tag: "RecordsPurged", count })
    }
  })
  const warn = (error: Error) => Effect.logWarning(`the janitor could not go on: ${error.message}`)
  const round = Effect.catchTags(clean, { Unavailable: () => Effect.void, Rejected: warn })
  return Effect.succeed(
    Effect.andThen(
      Effect.catchTag(publish, "Rejected", warn),
      Effect.forever(Effect.andThen(round, Effect.sleep(interval))),
    ),
  )
}
