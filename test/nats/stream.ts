/** What lies in the streams of a namespace, read by the server's own API. */
import * as Effect from "effect/Effect"
import * as Api from "../../src/nats/Api.ts"
import type { NatsError } from "../../src/nats/errors.ts"
import type { Nats } from "../../src/nats/Nats.ts"
import * as Subjects from "../../src/nats/Subjects.ts"

/** Messages of a stream. */
export interface Contents {
  /** How many there are. */
  readonly messages: number
  /** How many were ever stored: it grows also where one replaces another. */
  readonly lastSequence: number
  /** Their subjects, sorted; each has one message. */
  readonly subjects: ReadonlyArray<string>
}

interface Info {
  readonly state: {
    readonly messages: number
    readonly last_seq: number
    readonly subjects?: Readonly<Record<string, number>>
  }
  readonly total?: number
}

/** Reads the job stream of a partition. */
export const contents: (
  nats: Nats,
  partition?: number,
) => Effect.Effect<Contents, NatsError> = Effect.fnUntraced(function* (nats, partition = 0) {
  const stream = Subjects.jobsStream(nats.namespace, partition)
  const subjects: Array<string> = []
  while (true) {
    const { state, total = 0 } = yield* Api.call<Info>(
      nats.connection,
      `STREAM.INFO.${stream}`,
      { subjects_filter: ">", offset: subjects.length },
      `reading ${stream}`,
    )
    subjects.push(...Object.keys(state.subjects ?? {}))
    if (subjects.length >= total) {
      return { messages: state.messages, lastSequence: state.last_seq, subjects: subjects.sort() }
    }
  }
})

/** Ids of the jobs in a partition, sorted. */
export const idsIn = (
  nats: Nats,
  partition?: number,
): Effect.Effect<ReadonlyArray<string>, NatsError> =>
  Effect.map(
    contents(nats, partition),
    ({ subjects }) => subjects.map((subject) => subject.split(".").at(-1) ?? "").sort(),
  )
