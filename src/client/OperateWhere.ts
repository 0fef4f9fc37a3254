/**
 * Does an operation on all jobs that match a filter: page by page through the streams, the moves of a
 * page published in one pipeline, each on the condition of the message that was read. What somebody
 * else moved meanwhile is looked at again, by itself.
 *
 * It can be interrupted anywhere and done again, also twice at once: a job that was changed doesn't
 * match any more, or lies above the sequence up to which this goes.
 */
import * as Effect from "effect/Effect"
import type { WireState } from "../core/JobState.ts"
import * as JobState from "../core/JobState.ts"
import * as Api from "../nats/Api.ts"
import * as Claims from "../nats/Claims.ts"
import * as Conditional from "../nats/Conditional.ts"
import type { NatsError } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Links from "../nats/Links.ts"
import * as Lists from "../nats/Lists.ts"
import { announceEnded } from "../nats/Notices.ts"
import { nextAtLeader, type StoredMessage } from "../nats/Reader.ts"
import * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import * as Sweep from "../nats/Sweep.ts"
import type { Wire } from "../nats/Wire.ts"
import * as Servers from "./InspectServers.ts"
import { matches, type ResolvedFilter, wireStates } from "./JobFilter.ts"
import type * as Moves from "./Moves.ts"
import * as Operate from "./Operate.ts"
import type { Operation } from "./Operation.ts"
import { moveOf, type Moving, placeAfter } from "./OperationMove.ts"

/** What is to be done. */
export interface Request {
  readonly operation: Operation
  readonly filter: ResolvedFilter
  /** The newest sequence of each partition when it was asked for: what is newer isn't meant. */
  readonly cutoffs: ReadonlyArray<number>
  /** When it was asked for, in ms since 1970. */
  readonly asked: number
}

/** How many jobs. */
export interface Tally {
  /** Met that match. */
  matched: number
  /** Changed. */
  changed: number
  /** Not changed, because they had moved on, or couldn't be changed. */
  conflicts: number
}

/** Messages of one page, and most bytes in them. */
const pageSize = 400
const pageBytes = 4 * 1_024 * 1_024
/** Jobs whose final records, or all of whose messages, one read asks for. */
const lookedUp = 300
const lookedUpWhole = 200
/** How often a replica that lags behind is asked. */
const maxReads = 10
/** Jobs that are operated on one by one at once. */
const concurrency = 16
/** How long the answer of servers to what they run is used, in ms. */
const freshMillis = 1_000
/** Rounds through waiting jobs that are made for those that change their state meanwhile. */
const maxRounds = 3

/** The newest sequence of every partition. */
export const newestSequences = (
  { nats, partitions, subjects }: Wire,
): Effect.Effect<ReadonlyArray<number>, NatsError> =>
  Effect.forEach(
    Array.from({ length: partitions }, (_, partition) => partition),
    (partition) => {
      const stream = Subjects.jobsStream(subjects.namespace, partition)
      return Effect.map(
        Api.call<{ readonly state: { readonly last_seq: number } }>(
          nats.connection,
          `STREAM.INFO.${stream}`,
          undefined,
          `reading the state of ${stream}`,
        ),
        ({ state }) => state.last_seq,
      )
    },
    { concurrency: 8 },
  )

interface Page {
  readonly read: ReadonlyArray<StoredMessage>
  readonly jobs: ReadonlyArray<Records.JobMessage>
}

/** Goes through the messages under a filter from one sequence to another, both included. */
const scan = <E>(
  { nats, reader, replicated, subjects }: Wire,
  partition: number,
  filter: Subjects.JobFilter,
  [from, to]: readonly [number, number],
  use: (page: Page) => Effect.Effect<void, E>,
): Effect.Effect<void, E | NatsError> =>
  Effect.gen(function* () {
    const stream = Subjects.jobsStream(subjects.namespace, partition)
    const text = subjects.jobs(partition, filter)
    for (let sequence = from; sequence <= to;) {
      const page = yield* reader.page(stream, text, {
        sequence,
        count: pageSize,
        bytes: pageBytes,
      })
      const read = page.messages.filter((message) => message.sequence <= to)
      const last = page.messages.at(-1)
      if (last !== undefined) sequence = last.sequence + 1
      if (read.length > 0) yield* use({ read, jobs: Records.parse(subjects, read) })
      if (last !== undefined && page.pending > 0) continue
      // A replica that lags behind doesn't know the end.
      const next = replicated
        ? yield* nextAtLeader(nats.connection, stream, text, { seq: sequence })
        : undefined
      if (next === undefined || next.sequence > to) return
      yield* Effect.sleep("20 millis")
    }
  })

/** Asks now and then which jobs run, so that each page needn't wait for the answers. */
const makeRunning = (wire: Wire) => {
  let asked = Number.NEGATIVE_INFINITY
  let known: ReadonlySet<string> = new Set()
  return Effect.gen(function* () {
    if (performance.now() - asked < freshMillis) return known
    const { length } = yield* Servers.present(wire)
    const answers = yield* Servers.describe(wire, length)
    known = new Set([...answers.values()].flatMap(({ jobs }) => jobs.map(Lists.keyOf)))
    asked = performance.now()
    return known
  })
}

const finals = ["succeeded", "failed", "cancelled"] as const

/** The newest final records of those jobs that have one which counts more than their message (W5). */
const endedAmong = Effect.fnUntraced(function* (
  { reader, subjects }: Wire,
  partition: number,
  jobs: ReadonlyArray<Records.JobMessage>,
) {
  const stream = Subjects.jobsStream(subjects.namespace, partition)
  const ended = new Map<string, Subjects.JobSubject & { readonly sequence: number }>()
  for (let at = 0; at < jobs.length; at += lookedUp) {
    const some = jobs.slice(at, at + lookedUp)
    const filters = some.flatMap(({ envelope, subject }) =>
      finals.map((state) => subjects.final(state, envelope, subject))
    )
    const found = yield* reader.newest(stream, filters)
    if (found.length === 0) continue
    const after = new Map(
      some.map(({ envelope, subject }) => [Lists.keyOf(subject), envelope.progress.after]),
    )
    for (const { sequence, subject: text } of found) {
      const subject = subjects.parse(text)
      if (subject === undefined) continue
      const key = Lists.keyOf(subject)
      if (sequence > (after.get(key) ?? 0)) ended.set(key, { ...subject, sequence })
    }
  }
  return ended
})

/** A job whose move is stored. */
interface Moved {
  readonly message: Records.JobMessage
  readonly move: Moves.Move
  readonly sequence: number
}

/** Publishes moves in one pipeline. Gives what is stored, and whose jobs have moved on. */
const publish = (
  { publisher, subjects }: Wire,
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
    let left = moves.length
    const oneLess = () => {
      if (--left <= 0) resume(failure ?? Effect.succeed({ moved, lost }))
    }
    for (const { message, move } of moves) {
      publisher.publish({
        subject: move.subject,
        payload: move.payload,
        headers: move.headers,
        expected: message.stored.sequence,
        filter: subjects.job(message.subject),
        patience,
      }, (ack) => {
        if (ack._tag === "Stored") moved.push({ message, move, sequence: ack.sequence })
        else if (ack._tag === "Conflict") lost.push(message)
        else failure = Conditional.failureOf(ack, move.subject) ?? failure
        oneLess()
      })
    }
    if (moves.length === 0) oneLess()
  })

const viewOf = (message: Records.JobMessage): JobView.JobView => ({
  address: message.subject,
  current: message,
  newest: message.stored.sequence,
  stale: [],
})

/** Sees to what follows from the ends of jobs whose records are stored. */
const finishAll = Effect.fnUntraced(function* (
  { engine, wire }: Operate.Context,
  partition: number,
  ended: ReadonlyArray<Subjects.Address & Links.Ended>,
) {
  if (ended.length === 0) return
  const parents = yield* Links.parentsAmong(wire, partition, ended)
  yield* Effect.forEach(
    ended.filter(({ id }) => parents.has(id)),
    (job) => engine.meet(job),
    { concurrency, discard: true },
  )
  const batches = new Set(ended.map(({ group }) => group))
  batches.delete(Subjects.noGroup)
  for (const batch of batches) engine.memberEnded(partition, batch)
})

const endedBy = ({ message, move, sequence }: Moved): Subjects.Address & Links.Ended => {
  const { group, id, partition } = message.subject
  return { partition, group, id, subject: move.subject, sequence }
}

/** Whether what a job needs is more than one write, so that it is done by itself. */
const isSingle = (operation: Operation, { envelope, subject }: Records.JobMessage): boolean =>
  operation._tag === "requeue" &&
  (operation.revive || envelope.progress.claim !== undefined || subject.group !== Subjects.noGroup)

/** Removes what lies of jobs beside their records, so that nothing makes them run again. */
const removeCopies = Effect.fnUntraced(function* (
  wire: Wire,
  partition: number,
  jobs: ReadonlyArray<Records.JobMessage>,
) {
  const { reader, replicated, subjects } = wire
  const stream = Subjects.jobsStream(subjects.namespace, partition)
  const lacks = (found: ReadonlyArray<StoredMessage>, records: number) =>
    found.filter(({ subject: text }) => {
      const subject = subjects.parse(text)
      return subject !== undefined && Records.isRecord(subject)
    }).length < records
  for (let at = 0; at < jobs.length; at += lookedUpWhole) {
    const records = new Map(
      jobs.slice(at, at + lookedUpWhole)
        .map(({ stored, subject }) => [Lists.keyOf(subject), { stored, subject }]),
    )
    const filters = [...records.values()].map(({ subject }) => subjects.job(subject))
    let found = yield* reader.newest(stream, filters)
    // A replica that lags behind lacks records; what somebody else has removed stays away.
    for (let reads = 1; replicated && reads < maxReads && lacks(found, records.size); reads++) {
      yield* Effect.sleep("20 millis")
      found = yield* reader.newest(stream, filters)
    }
    // What a schedule has made of a job that was about to end is newer than its record.
    const late = new Set(
      Records.parse(subjects, found).filter(({ envelope, stored: { sequence }, subject }) => {
        const record = records.get(Lists.keyOf(subject))?.stored.sequence ?? 0
        return sequence > record && envelope.progress.after < record
      }).map(({ stored }) => stored.sequence),
    )
    const copies = found.filter(({ sequence, subject: text }) => {
      const subject = subjects.parse(text)
      const record = subject && records.get(Lists.keyOf(subject))
      return record !== undefined && (sequence < record.stored.sequence || late.has(sequence))
    })
    yield* Effect.forEach(
      copies,
      ({ sequence }) => Conditional.remove(wire, partition, sequence),
      { concurrency, discard: true },
    )
  }
})

/** Jobs of one state in one partition. */
interface Range {
  readonly partition: number
  readonly state: WireState
  /** The first and the last sequence. */
  readonly sequences: readonly [number, number]
}

/** What matches of a page, with what was left behind by an earlier run of the same request. */
const choose = Effect.fnUntraced(function* (
  wire: Wire,
  { asked, cutoffs, filter }: Request,
  { partition, state }: Range,
  running: ReturnType<typeof makeRunning>,
  jobs: ReadonlyArray<Records.JobMessage>,
) {
  const cutoff = cutoffs[partition] ?? 0
  const matching = jobs.filter((message) =>
    matches(filter, message) &&
    // What is newer may be a job that was there and has moved on.
    (message.stored.sequence <= cutoff || message.envelope.created < asked)
  )
  const leftovers: Array<number> = []
  if (JobState.isFinal(JobState.fromWire(state)) || matching.length === 0) {
    return { chosen: matching, leftovers }
  }
  const ended = yield* endedAmong(wire, partition, matching)
  const { states } = filter
  const either = state === "ready" && states.includes("enqueued") !== states.includes("processing")
  const runs: ReadonlySet<string> = either ? yield* running : new Set()
  const chosen = matching.filter(({ stored, subject }) => {
    const key = Lists.keyOf(subject)
    const record = ended.get(key)
    if (record !== undefined) {
      const ours = record.state === "cancelled" && record.sequence > cutoff
      if (ours && state === "ready") leftovers.push(stored.sequence)
      return false
    }
    return !either || runs.has(key) === states.includes("processing")
  })
  return { chosen, leftovers }
})

/** A request that is being done. */
interface Doing {
  readonly context: Operate.Context
  readonly request: Request
  readonly running: ReturnType<typeof makeRunning>
  readonly tally: Tally
  readonly keep: Memory["keep"]
}

/** Does the request for the jobs of a range. */
const runRange = Effect.fnUntraced(function* (
  { context, keep, request, running, tally }: Doing,
  range: Range,
): Effect.fn.Return<void, Operate.OperateError> {
  const { patience, wire } = context
  const { filter, operation } = request
  const { partition, sequences, state } = range
  const { group, queue } = filter
  const cutoff = request.cutoffs[partition] ?? 0
  const whole = group === undefined && sequences[0] === 1
  const sweep = Sweep.make(wire, partition, whole)

  /** Of a job that has moved on: it is meant only if it still matches, and isn't one of ours. */
  const stillMeant = (view: JobView.JobView | undefined) => {
    if (view === undefined) return undefined
    const { stored, subject } = view.current
    const newer = stored.sequence > cutoff && operation._tag !== "cancel"
    const elsewhere = queue !== undefined && subject.queue !== queue
    return newer || elsewhere || !matches(filter, view.current) ? undefined : view
  }
  const one = Effect.fnUntraced(function* ({ subject }: Records.JobMessage) {
    const look = Effect.map(JobView.at(wire, subject), stillMeant)
    const expected = { ifState: filter.states }
    const { _tag } = yield* Operate.operate(context, subject.id, look, operation, expected)
    if (_tag === "changed") tally.changed++
    else tally.conflicts++
  })
  const changed = ({ message, move }: Moved) => {
    tally.changed++
    const { id } = message.subject
    const from = JobState.fromWire(state)
    const to = JobState.fromWire(move.to)
    context.notify(viewOf(message), { _tag: "changed", id, from, to })
  }

  const moveAll = Effect.fnUntraced(function* (
    jobs: ReadonlyArray<Records.JobMessage>,
    operation: Moving,
    superseded: Set<number>,
  ) {
    const now = wire.clock.now()
    const queues = new Set(jobs.map(({ envelope }) => placeAfter(envelope, operation).queue))
    if (operation._tag !== "cancel") {
      yield* Effect.forEach(queues, context.ensureQueue, { discard: true })
    }
    const moves = jobs.flatMap((message) => {
      const move = moveOf(wire, message, operation, now)
      return move === undefined ? [] : [{ message, move }]
    })
    const { lost, moved } = yield* publish(wire, moves, patience)
    for (const { message, move } of moved) {
      // A move onto the same subject has taken the old message's place, a schedule's is gone.
      const stays = state === "ready" || operation._tag === "requeue"
      if (stays && move.subject !== message.stored.subject) superseded.add(message.stored.sequence)
    }
    if (state === "ready") Conditional.announceVoid(wire, partition, [...superseded])
    if (operation._tag === "cancel") {
      announceEnded(wire, moved.map(({ message }) => message.subject.id))
      yield* Effect.forEach(
        moved,
        ({ message: { envelope: { progress: { claim } }, subject } }) =>
          claim === undefined ? Effect.void : Claims.releaseClaim(wire, subject, claim),
        { concurrency, discard: true },
      )
      yield* finishAll(context, partition, moved.map(endedBy))
      // Whoever requeued some of them may have died before deleting their records of then.
      yield* Effect.forEach(
        moved.map(({ message }) => message.envelope.progress.after).filter((after) => after > 0),
        (after) => Conditional.remove(wire, partition, after),
        { concurrency, discard: true },
      )
    }
    for (const one of moved) changed(one)
    return lost
  })

  const removeRecords = Effect.fnUntraced(function* (
    jobs: ReadonlyArray<Records.JobMessage>,
    superseded: Set<number>,
  ) {
    const ended = jobs.map(({ stored: { sequence, subject: text }, subject }) => {
      const { group, id, partition } = subject
      return { partition, group, id, subject: text, sequence }
    })
    yield* finishAll(context, partition, ended)
    yield* removeCopies(wire, partition, jobs)
    for (const { stored } of jobs) superseded.add(stored.sequence)
    for (const message of jobs) {
      tally.changed++
      const { id } = message.subject
      const from = JobState.fromWire(state)
      context.notify(viewOf(message), { _tag: "changed", id, from, to: from })
    }
  })

  const page = Effect.fnUntraced(function* ({ jobs, read }: Page) {
    const { chosen, leftovers } = yield* choose(wire, request, range, running, jobs)
    tally.matched += chosen.length
    const superseded = new Set(leftovers)
    const single = chosen.filter((message) => isSingle(operation, message))
    const many = chosen.filter((message) => !isSingle(operation, message))
    if (operation._tag === "remove") yield* removeRecords(many, superseded)
    else single.push(...yield* moveAll(many, operation, superseded))
    yield* sweep.page(read, superseded)
    yield* Effect.forEach(single, one, { concurrency, discard: true })
    if (chosen.length > 0) keep(tally)
  })

  yield* scan(wire, partition, { state, queue, group }, sequences, page)
  yield* sweep.end
})

/** Finishes what an earlier run has begun: jobs that it cancelled and whose followers may wait. */
const finishEarlier = (
  context: Operate.Context,
  { cutoffs, filter: { group } }: Request,
  partition: number,
): Effect.Effect<void, NatsError> =>
  scan(
    context.wire,
    partition,
    { state: "cancelled", group },
    [(cutoffs[partition] ?? 0) + 1, Number.MAX_SAFE_INTEGER],
    ({ jobs }) =>
      finishAll(
        context,
        partition,
        jobs.map(({ stored: { sequence, subject: text }, subject: { group, id } }) => ({
          partition,
          group,
          id,
          subject: text,
          sequence,
        })),
      ),
  )

const partitionsOf = ({ partitions }: Wire) =>
  Array.from({ length: partitions }, (_, partition) => partition)

/** Where the numbers of a request are kept, for whoever goes on with it. */
export interface Memory {
  /** What was counted before. */
  readonly before: Readonly<Tally>
  /** Told after each page. */
  readonly keep: (tally: Readonly<Tally>) => void
}

/** Nothing was counted before. */
export const nothing: Readonly<Tally> = { matched: 0, changed: 0, conflicts: 0 }

/** Does a request, and tells how many jobs it has met and changed. */
export const run: (
  context: Operate.Context,
  request: Request,
  memory?: Memory,
) => Effect.Effect<Tally, Operate.OperateError> = Effect.fnUntraced(function* (
  context,
  request,
  memory = { before: nothing, keep: () => {} },
) {
  const { wire } = context
  const { cutoffs, filter, operation } = request
  const tally: Tally = { ...memory.before }
  const doing: Doing = { context, request, running: makeRunning(wire), tally, keep: memory.keep }
  const isCancel = operation._tag === "cancel"
  const runPartition = Effect.fnUntraced(function* (partition: number) {
    if (isCancel) yield* finishEarlier(context, request, partition)
    let from = 1
    let to = cutoffs[partition] ?? 0
    for (let round = 1;; round++) {
      const before = tally.matched
      for (const state of wireStates(filter)) {
        const sequences = [from, to] as const
        yield* runRange(doing, { partition, state, sequences })
      }
      // What is cancelled stays so; what else was there may have moved on before it was met.
      if (!isCancel || round === maxRounds || tally.matched === before && round > 1) return
      from = to + 1
      to = (yield* newestSequences(wire))[partition] ?? 0
    }
  })
  yield* Effect.forEach(partitionsOf(wire), runPartition, { concurrency: 4, discard: true })
  return tally
})

/** How many jobs match that aren't newer than the request. Changes nothing. */
export const count: (wire: Wire, request: Request) => Effect.Effect<number, NatsError> = Effect
  .fnUntraced(function* (wire, request) {
    const { cutoffs, filter: { group, queue } } = request
    const running = makeRunning(wire)
    let total = 0
    for (const partition of partitionsOf(wire)) {
      const sequences = [1, cutoffs[partition] ?? 0] as const
      for (const state of wireStates(request.filter)) {
        yield* scan(
          wire,
          partition,
          { state, queue, group },
          sequences,
          Effect.fnUntraced(function* ({ jobs }) {
            const range = { partition, state, sequences }
            const { chosen } = yield* choose(wire, request, range, running, jobs)
            total += chosen.length
          }),
        )
      }
    }
    return total
  })
