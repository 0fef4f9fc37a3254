/**
 * How long records of ended jobs stay, and their removal once they are past that.
 *
 * Records are purged by filter and sequence: everything of one state and retention class that lies
 * below a bound. The bound is found by asking the server for sequences, never by reading records.
 * What decides is read at the stream's leader; only counts are direct reads, since a replica that
 * lags behind counts too few new records, which keeps more than need be.
 *
 * Measured with 300-byte messages on nats-server 2.14.0, file store, among 100,000 ready jobs, with
 * 100,000 and with 300,000 records (72,000 and 216,000 of them under the filter). All of it is time
 * in which the stream takes no writes:
 *
 * - the first sequence at an instant (`start_time` with `>`): 0.2 ms, whatever the stream holds;
 * - the first message under a filter, from the beginning: 13 and 38 ms; of the ready jobs 20 ms;
 * - `Nats-Num-Pending` of a filter: 24 and 71 ms from the beginning, 7 and 53 ms from the middle,
 *   0.4 ms near the end; it leaves out the message that is returned;
 * - a purge: 35 and 110 ms plus about 4 µs per record; 0.6 ms when nothing is under the filter.
 *
 * So counting is left out while the whole stream holds fewer messages than may stay, a purge while
 * nothing lies below the bound, and a large purge is made in steps with pauses between.
 */
import * as Effect from "effect/Effect"
import * as MessagePack from "../core/MessagePack.ts"
import * as Api from "./Api.ts"
import { type NatsError, Rejected } from "./errors.ts"
import { nextAtLeader, type StoredMessage } from "./Reader.ts"
import * as Subjects from "./Subjects.ts"
import type { Wire } from "./Wire.ts"

/** How long the records of a retention class are kept. */
export interface Setting {
  /** The job definition that it is for, told to people; of the common class any text. */
  readonly name: string
  /** Age from which on a record goes, in ms. */
  readonly ageMillis: number
  /** How many records stay, the newest ones. */
  readonly count: number
}

/** Settings by retention class, the token in the records' subjects. */
export type Settings = ReadonlyMap<string, Setting>

/** The final states whose records don't stay for ever, and with them all of the engine's own. */
const states = ["succeeded", "cancelled"] as const

/** Ack waits that a record outlives at least: copies of its job's messages may be out that long. */
const guardedAckWaits = 4

/** Most sequences that one purge goes over, for the stream stands still meanwhile. */
const purgeStep = 50_000

/** Most counts that the search for a bound takes; the next round goes on from where it ended. */
const maxProbes = 24

/** The first message under a filter, from a sequence or an instant on; `undefined` for none. */
const firstAtLeader = (
  { nats }: Wire,
  stream: string,
  filter: string,
  from: { readonly seq: number } | { readonly start_time: string },
): Effect.Effect<StoredMessage | undefined, NatsError> =>
  nextAtLeader(nats.connection, stream, filter, from)

/** Writes to the STATE stream, once; gives whether it is known to be stored. */
const store = (
  { publisher }: Wire,
  subject: string,
  message: {
    readonly payload: Uint8Array
    readonly expected: number | undefined
    readonly headers?: string
  },
): Effect.Effect<boolean, Rejected> =>
  Effect.callback((resume) => {
    publisher.publish({ ...message, subject, filter: subject, patience: 0 }, (ack) => {
      if (ack._tag !== "Refused") return resume(Effect.succeed(ack._tag === "Stored"))
      const { code, description } = ack
      const operation = `storing ${subject}`
      resume(Effect.fail(new Rejected({ operation, code, status: 0, description })))
    })
  })

/**
 * Tells all servers of the namespace how long the records of a class are kept; the last word counts.
 * Repeated each second until it is stored; fails when the server refuses it.
 */
export const publish: (
  wire: Wire,
  retentionClass: string,
  setting: Setting,
) => Effect.Effect<void, Rejected> = Effect.fnUntraced(function* (wire, retentionClass, setting) {
  const { ageMillis, count, name } = setting
  const subject = wire.subjects.state("retention", retentionClass)
  const payload = MessagePack.encode({ age: ageMillis, count, name })
  while (!(yield* store(wire, subject, { payload, expected: undefined }))) {
    yield* Effect.sleep("1 second")
  }
})

const isCount = (value: unknown): value is number => typeof value === "number" && value >= 0

const settingIn = (bytes: Uint8Array): Setting | undefined => {
  try {
    const { age, count, name } = MessagePack.decode(bytes) as Readonly<Record<string, unknown>>
    return isCount(age) && isCount(count)
      ? { name: String(name), ageMillis: age, count }
      : undefined
  } catch {
    return undefined
  }
}

/**
 * The settings that servers of the namespace have published. One that can't be read is left out, so
 * that the records of its class are left alone.
 */
export const published: (wire: Wire) => Effect.Effect<Settings, NatsError> = Effect.fnUntraced(
  function* (wire) {
    const stream = Subjects.stateStream(wire.subjects.namespace)
    const filter = wire.subjects.state("retention", "*")
    const settings = new Map<string, Setting>()
    // One by one: a read of many has a bound, the number of definitions has none.
    for (let seq = 1;;) {
      const found = yield* firstAtLeader(wire, stream, filter, { seq })
      if (found === undefined) return settings
      const setting = settingIn(found.data)
      const retentionClass = found.subject.slice(found.subject.lastIndexOf(".") + 1)
      if (setting !== undefined) settings.set(retentionClass, setting)
      seq = found.sequence + 1
    }
  },
)

/**
 * Asks for the next round of cleaning. Of all servers that ask, one gets `true`; the others get
 * `false` until the claim has expired. `false` also when there was no answer.
 */
export const claim = (wire: Wire, lifeSeconds: number): Effect.Effect<boolean, Rejected> =>
  store(wire, wire.subjects.state("janitor"), {
    payload: new Uint8Array(0),
    expected: 0,
    headers: `Nats-TTL: ${lifeSeconds}s\r\n`,
  })

/** How many messages lie under a filter from a sequence on. */
export const countFrom: (
  wire: Wire,
  stream: string,
  filter: string,
  sequence: number,
) => Effect.Effect<number, NatsError> = Effect.fnUntraced(function* (
  { nats },
  stream,
  filter,
  sequence,
) {
  const operation = `counting the messages under ${filter}`
  const { headers } = yield* Api.request(
    nats.connection,
    `$JS.API.DIRECT.GET.${stream}`,
    JSON.stringify({ seq: sequence, next_by_subj: filter, batch: 1 }),
    operation,
  )
  const pending = headers?.get("Nats-Num-Pending") ?? ""
  if (pending !== "") return Number(pending) + 1
  if (headers?.code === 404) return 0
  const { code = 0, description = "no count" } = headers ?? {}
  return yield* new Rejected({ operation, code: 0, status: code, description })
})

/**
 * The sequence from `low` to `high` from which on `keep` messages are left; `low` when there are
 * fewer, `high` when there are more. Where records and jobs are mixed evenly, interpolation finds it
 * in four to six counts; each third one halves what is left, should they not be.
 */
const searchNewest = Effect.fnUntraced(function* (
  count: (sequence: number) => Effect.Effect<number, NatsError>,
  keep: number,
  range: { readonly low: number; readonly high: number },
): Effect.fn.Return<number, NatsError> {
  let { high, low } = range
  let atLow = yield* count(low)
  if (atLow <= keep) return low
  let atHigh = yield* count(high)
  if (atHigh >= keep) return high
  for (let probe = 1; probe <= maxProbes && high - low > 1; probe++) {
    const share = probe % 3 === 0 ? 0.5 : (atLow - keep) / (atLow - atHigh)
    const guess = Math.min(high - 1, low + Math.max(1, Math.round((high - low) * share)))
    const left = yield* count(guess)
    if (left === keep) return guess
    if (left > keep) [low, atLow] = [guess, left]
    else [high, atHigh] = [guess, left]
  }
  // Rather too many than too few.
  return low
})

/** Purges what lies below a bound, in steps, with pauses as long as the steps took. */
const purgeBelow = Effect.fnUntraced(function* (
  wire: Wire,
  stream: string,
  filter: string,
  bound: number,
): Effect.fn.Return<number, NatsError> {
  let purged = 0
  while (true) {
    const first = yield* firstAtLeader(wire, stream, filter, { seq: 1 })
    if (first === undefined || first.sequence >= bound) return purged
    const seq = Math.min(bound, first.sequence + purgeStep)
    const [took, step] = yield* Effect.timed(
      Api.call<{ readonly purged: number }>(
        wire.nats.connection,
        `STREAM.PURGE.${stream}`,
        { filter, seq },
        `purging ${filter} below ${seq}`,
      ),
    )
    purged += step.purged
    if (seq === bound || step.purged === 0) return purged
    yield* Effect.sleep(took)
  }
})

/**
 * Removes the records of a partition that are past their retention, and gives how many they were.
 * A count is for the whole namespace, so each of several partitions keeps an even share of it.
 *
 * A record stays while it is needed: for four ack waits, and while the partition has a ready message
 * that is older. Such a message may be a stale copy of the same job, which nothing but the record
 * keeps from running again.
 */
export const purge: (
  wire: Wire,
  partition: number,
  settings: Settings,
  ackWaitMillis: number,
) => Effect.Effect<number, NatsError> = Effect.fnUntraced(
  function* (wire, partition, settings, ackWaitMillis) {
    const { nats, partitions, subjects } = wire
    const stream = Subjects.jobsStream(subjects.namespace, partition)
    const { state, ts } = yield* Api.call<{
      readonly ts: string
      readonly state: {
        readonly messages: number
        readonly first_seq: number
        readonly last_seq: number
      }
    }>(nats.connection, `STREAM.INFO.${stream}`, undefined, `reading the state of ${stream}`)
    const now = Date.parse(ts)
    const end = state.last_seq + 1
    // What is stored from here on lies at `end` or above, so it is never purged in this round.
    const sequenceAt = (instant: number): Effect.Effect<number, NatsError> =>
      instant <= 0 ? Effect.succeed(0) : Effect.map(
        firstAtLeader(wire, stream, ">", { start_time: new Date(instant).toISOString() }),
        (found) => Math.min(end, found?.sequence ?? end),
      )
    const ready = yield* firstAtLeader(wire, stream, subjects.ready(partition), { seq: 1 })
    const limit = Math.min(
      yield* sequenceAt(now - guardedAckWaits * ackWaitMillis),
      ready?.sequence ?? end,
    )
    let purged = 0
    if (limit <= state.first_seq) return purged
    for (const [retentionClass, { ageMillis, count }] of settings) {
      const filters = [
        ...states.map((name) => subjects.finals(partition, name, retentionClass)),
        // A batch of which some members failed is nobody's dead letter.
        subjects.failedOfEngine(partition, retentionClass),
      ]
      const total = (sequence: number) =>
        Effect.map(
          Effect.forEach(filters, (filter) => countFrom(wire, stream, filter, sequence)),
          (counts) => counts.reduce((sum, one) => sum + one, 0),
        )
      const keep = Math.floor(count / partitions) + (partition < count % partitions ? 1 : 0)
      const byAge = Math.min(limit, yield* sequenceAt(now - ageMillis))
      const bound = state.messages <= keep || byAge === limit
        ? byAge
        : yield* searchNewest(total, keep, { low: Math.max(1, byAge), high: limit })
      for (const filter of filters) purged += yield* purgeBelow(wire, stream, filter, bound)
    }
    return purged
  },
)
