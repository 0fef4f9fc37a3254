/**
 * Builds a batch: members are stored where nobody sees them, one write then makes the whole batch
 * real, and its members are sent to their queues. Who dies before that write leaves nothing behind, who
 * dies after it has a batch that servers go on with (W19).
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as BatchState from "../core/BatchState.ts"
import * as Envelope from "../core/Envelope.ts"
import { InvalidOptions } from "../core/errors.ts"
import { hash32, type JobId } from "../core/JobId.ts"
import { checkKeys, checkName, show } from "../core/Names.ts"
import type * as Waits from "../core/Waits.ts"
import { failureOf } from "../nats/Conditional.ts"
import { type NatsError, Unavailable } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import * as Records from "../nats/Records.ts"
import * as Retention from "../nats/Retention.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import * as BatchCommand from "./BatchCommand.ts"
import * as Continuations from "./Continuations.ts"
import {
  type Definition,
  type JobOptions,
  resolveRetention,
  type Retention as RetentionOptions,
} from "./Definition.ts"
import type { Engine } from "./Engine.ts"
import { JobNotFound } from "./JobRecord.ts"
import * as Moves from "./Moves.ts"
import * as PayloadSource from "./PayloadSource.ts"
import type * as Prepare from "./Prepare.ts"
import type { EnqueueError, Timing, Writer } from "./Writer.ts"

/** What a batch is given. */
export interface BatchOptions {
  /** For people; up to 500 characters. */
  readonly description?: string | undefined
  /** How long the records of the batch and of its members are kept; default as for any job. */
  readonly retention?: RetentionOptions | undefined
}

/** When a member may run at the earliest, and what else it has. */
export type MemberOptions = JobOptions & Timing

/** How a member follows other jobs. */
export type MemberAfterOptions = JobOptions & Continuations.Following

/**
 * A batch couldn't be added to: it was cancelled, it is gone, or its builder took so long without a
 * sign of life that servers gave it up. Nothing of what was being added has been seen by anybody.
 */
export class BatchClosed extends Data.Error<{
  /** The batch. */
  readonly id: JobId
  /** Why. */
  readonly reason: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "BatchClosed"
  /** Name in stack traces. */
  override readonly name = "BatchClosed"
  /** One sentence a person can act on. */
  override get message(): string {
    return `nothing was added to batch ${this.id}: ${this.reason}`
  }
}

/** Why a batch couldn't be built. */
export type BatchError = EnqueueError | JobNotFound | BatchClosed

/** Adds members to a batch that is being built. */
export interface Builder {
  /** Id of the batch. */
  readonly id: JobId
  /** Adds a job, for its queue at once or at its time. */
  readonly add: (
    definition: Definition,
    payload: unknown,
    options?: MemberOptions,
  ) => Effect.Effect<JobId, BatchError>
  /** Adds many jobs in bounded memory. */
  readonly addMany: (
    definition: Definition,
    payloads: PayloadSource.Payloads<unknown>,
    options?: MemberOptions,
  ) => Effect.Effect<ReadonlyArray<JobId>, BatchError>
  /** Adds a job that follows others, members or not. */
  readonly addAfter: (
    parents: JobId | ReadonlyArray<JobId>,
    definition: Definition,
    payload: unknown,
    options?: MemberAfterOptions,
  ) => Effect.Effect<JobId, BatchError>
  /** Adds a command of the engine, after other jobs or, without any, for its queue at once. */
  readonly addCommand: (
    parents: ReadonlyArray<JobId>,
    name: `_${string}`,
    payload: unknown,
    options?: Continuations.Following,
  ) => Effect.Effect<JobId, BatchError>
  /** Adds a batch, which is one member. */
  readonly addBatch: <E, R>(
    options: BatchOptions,
    build: (builder: Builder) => Effect.Effect<unknown, E, R>,
  ) => Effect.Effect<JobId, E | BatchError, R>
}

/** Builds batches, and on batches, in a namespace. */
export interface Batching {
  /** Builds a batch and gives its id. */
  readonly create: <E, R>(
    options: BatchOptions,
    build: (builder: Builder) => Effect.Effect<unknown, E, R>,
  ) => Effect.Effect<JobId, E | BatchError, R>
  /** Adds to a batch that was built before; one that has ended opens again. */
  readonly attach: <E, R>(
    id: JobId,
    build: (builder: Builder) => Effect.Effect<unknown, E, R>,
  ) => Effect.Effect<void, E | BatchError, R>
}

const pageSize = 1_000
const pageBytes = 8 * 1024 * 1024
const maxDescription = 500
/** Who finds somebody else adding to the batch waits for that, so long. */
const turnMillis = 60_000
const turnPause = "20 millis"

const silent = "its builder gave no sign of life for too long, so servers gave it up"
const cancelled = "it was cancelled"

/** Whether the one who began to add as that generation still does. */
const isOurs = (state: BatchState.BatchState, generation: number): boolean =>
  BatchState.isBuiltOn(state) && state.generation === generation

const staged: Waits.Waits = { staged: true, need: "all", on: [], delay: 0, parents: [] }

interface Resolved {
  readonly description: string | undefined
  readonly retention: string | undefined
}

/** Makes it for a namespace. */
export const make = (
  wire: Wire,
  engine: Engine,
  writer: Writer,
  prepare: ReturnType<typeof Prepare.make>,
): Batching => {
  const { clock, publisher, subjects } = wire
  const { batches } = engine
  const { patience } = writer

  const resolve: (options: BatchOptions) => Effect.Effect<Resolved, EnqueueError> = Effect
    .fnUntraced(function* (options) {
      const unknown = checkKeys("options", options, ["description", "retention"])
      if (unknown !== undefined) return yield* unknown
      const { description } = options
      if (
        description !== undefined &&
        (typeof description !== "string" || description.length > maxDescription)
      ) {
        const reason = `it is a text of up to ${maxDescription} characters`
        return yield* new InvalidOptions({
          field: "description",
          value: show(description),
          reason,
        })
      }
      if (options.retention === undefined) return { description, retention: undefined }
      const setting = resolveRetention(options.retention)
      if (setting instanceof InvalidOptions) return yield* setting
      // Batches with the same retention share a class of records, which is told to the servers.
      const { ageMillis, count } = setting
      const hash = hash32(`batch ${ageMillis} ${count}`).toString(16).padStart(8, "0")
      const retention = `_${hash}`
      yield* Effect.timeoutOrElse(
        Retention.publish(wire, retention, { name: "batches", ageMillis, count }),
        {
          duration: patience,
          orElse: () => Effect.fail(new Unavailable({ operation: "storing a retention" })),
        },
      )
      return { description, retention }
    })

  /** The message of a member that waits for nothing but its batch. */
  const publicationOf = (group: string, partition: number, prepared: Prepare.Prepared) => {
    const { due, id, message } = prepared
    const address = { partition, group, id }
    const progress = { ...Envelope.untouched, waits: staged }
    return {
      subject: Moves.staged(subjects, address),
      payload: Envelope.withProgress(
        message,
        due === undefined ? progress : { ...progress, since: Math.ceil(due) },
      ),
      headers: Moves.awaitLines(subjects, address, Moves.never),
      expected: undefined,
      filter: subjects.job(address),
      patience,
    }
  }

  /** Stores members in one pipeline. */
  const stage = (
    group: string,
    partition: number,
    members: ReadonlyArray<Prepare.Prepared>,
  ): Effect.Effect<void, NatsError> =>
    Effect.flatten(
      Effect.callback<Effect.Effect<void, NatsError>>((resume) => {
        let left = members.length
        let failure: Effect.Effect<void, NatsError> = Effect.void
        for (const member of members) {
          const publication = publicationOf(group, partition, member)
          publisher.publish(publication, (ack) => {
            failure = failureOf(ack, publication.subject) ?? failure
            if (--left === 0) resume(Effect.succeed(failure))
          })
        }
        if (left === 0) resume(Effect.succeed(failure))
      }),
    )

  interface Counted extends Builder {
    readonly count: () => number
  }

  const builderOf = (
    batch: Subjects.Address,
    retention: string | undefined,
    closed: () => string | undefined,
    outer: ReadonlyArray<JobId> = batch.group === Subjects.noGroup ? [] : [batch.group],
  ): Counted => {
    const { id, partition } = batch
    let total = 0
    const around: ReadonlyArray<JobId> = [id, ...outer]
    /** A member can't wait for the end of what ends with it. */
    const outside = (parents: JobId | ReadonlyArray<JobId>): InvalidOptions | undefined => {
      const own = around.find((batch) => [parents].flat().includes(batch))
      return own === undefined ? undefined : new InvalidOptions({
        field: "parents",
        value: show(own),
        reason: "a member can't follow the batch that it is part of: both would wait for ever",
      })
    }
    const place = (field: string): Prepare.Place => ({
      partition,
      field,
      retention,
      what: "a batch",
    })
    const open: Effect.Effect<void, BatchClosed> = Effect.suspend(() => {
      const reason = closed()
      return reason === undefined ? Effect.void : Effect.fail(new BatchClosed({ id, reason }))
    })
    return {
      id,
      count: () => total,
      add: Effect.fnUntraced(function* (definition, payload, options = {}) {
        yield* open
        const prepared = yield* prepare(definition, payload, options, place("payload"))
        yield* stage(id, partition, [prepared])
        total++
        return prepared.id
      }),
      addMany: Effect.fnUntraced(function* (definition, payloads, options = {}) {
        if (!PayloadSource.isPayloads(payloads)) {
          return yield* new InvalidOptions({
            field: "payloads",
            value: show(payloads),
            reason: "an array, an iterable or an async iterable of payloads is expected",
          })
        }
        const source = PayloadSource.make(definition.name, payloads)
        const ids: Array<JobId> = []
        const all = Effect.gen(function* () {
          for (let ended = false; !ended;) {
            yield* open
            const page: Array<Prepare.Prepared> = []
            for (let bytes = 0; page.length < pageSize && bytes < pageBytes;) {
              const field = `payload[${ids.length + page.length}]`
              const item = yield* source.next(field)
              ended = item.done === true
              if (ended) break
              const prepared = yield* prepare(definition, item.value, options, place(field))
              page.push(prepared)
              bytes += prepared.message.length
            }
            yield* stage(id, partition, page)
            total += page.length
            for (const prepared of page) ids.push(prepared.id)
          }
          return ids
        })
        return yield* Effect.ensuring(all, source.close)
      }),
      addAfter: Effect.fnUntraced(function* (parents, definition, payload, options = {}) {
        yield* open
        const waits = outside(parents) ?? Continuations.waitsOf(parents, options, payload)
        if (waits instanceof InvalidOptions) return yield* waits
        const rest = Continuations.withoutFollowing(options)
        const prepared = yield* prepare(definition, payload, rest, place("payload"))
        const { lane, queue } = prepared.to
        const address = { partition, group: id, id: prepared.id }
        const { message } = prepared
        yield* Continuations.store(wire, { address, queue, lane, message, waits }, patience)
        total++
        return prepared.id
      }),
      addCommand: Effect.fnUntraced(function* (parents, name, payload, options = {}) {
        yield* open
        const waits = parents.length === 0 ? staged : Continuations.waitsOf(parents, options)
        if (waits instanceof InvalidOptions) return yield* waits
        const address = { partition, group: id, id: writer.newIdIn(partition) }
        yield* BatchCommand.store(wire, address, { name, payload, retention, waits }, patience)
        total++
        return address.id
      }),
      addBatch: Effect.fnUntraced(function* (options, build) {
        yield* open
        const resolved = yield* resolve(options)
        const inner = { partition, group: id, id: writer.newIdIn(partition) }
        const class_ = resolved.retention ?? retention
        yield* batches.create(inner, { description: resolved.description }, class_)
        const builder = builderOf(inner, class_, closed, around)
        yield* build(builder).pipe(
          // Whoever goes on without it doesn't have half of it.
          Effect.onError(() => Effect.ignore(batches.giveUp(inner, 0))),
        )
        yield* batches.update(inner, (state) => ({ ...state, total: builder.count() }))
        total++
        return inner.id
      }),
    }
  }

  /** Runs a builder while servers are told that it lives. Gives how many members it has added. */
  const building = Effect.fnUntraced(function* <E, R>(
    batch: Subjects.Address,
    retention: string | undefined,
    generation: number,
    build: (builder: Builder) => Effect.Effect<unknown, E, R>,
  ): Effect.fn.Return<number, E | BatchError, R> {
    let closed: string | undefined
    const builder = builderOf(batch, retention, () => closed)
    const beat = batches.update(batch, (state) => {
      if (!isOurs(state, generation)) return undefined
      return { ...state, heldUntil: Math.max(state.heldUntil, clock.now() + wire.alarmMillis) }
    }).pipe(
      Effect.tap((state) =>
        Effect.sync(() => {
          if (state === undefined || !isOurs(state, generation)) closed = silent
        })
      ),
      Effect.ignore,
    )
    const beating = yield* Effect.forkChild(
      Effect.schedule(beat, Schedule.spaced(wire.alarmMillis / 3)),
    )
    yield* Effect.ensuring(build(builder), Fiber.interrupt(beating))
    return builder.count()
  })

  /** One write, after which the batch with all that was added is real. */
  const commit = Effect.fnUntraced(function* (
    batch: Subjects.Address,
    generation: number,
    total: number,
  ): Effect.fn.Return<void, BatchError> {
    const before = yield* batches.update(
      batch,
      (state) =>
        isOurs(state, generation)
          ? { ...BatchState.inPhase(state, "releasing"), total: state.total + total }
          : undefined,
    )
    if (before !== undefined && isOurs(before, generation)) return
    const view = yield* JobView.at(wire, batch)
    const isCancelled = view?.current.subject.state === "cancelled"
    return yield* new BatchClosed({ id: batch.id, reason: isCancelled ? cancelled : silent })
  })

  /**
   * Builds, commits and releases. Nobody has seen what fails to be committed, and it goes away. From
   * the commit on it is real: should we die or be interrupted, servers go on.
   */
  const complete = <E, R>(
    batch: Subjects.Address,
    generation: number,
    building: Effect.Effect<number, E, R>,
  ): Effect.Effect<void, E | BatchError, R> =>
    Effect.uninterruptibleMask((restore) =>
      restore(building).pipe(
        Effect.flatMap((total) => commit(batch, generation, total)),
        Effect.onError(() => Effect.ignore(batches.giveUp(batch, generation))),
        Effect.andThen(restore(batches.release(batch))),
      )
    )

  const create: Batching["create"] = Effect.fnUntraced(function* <E, R>(
    options: BatchOptions,
    build: (builder: Builder) => Effect.Effect<unknown, E, R>,
  ): Effect.fn.Return<JobId, E | BatchError, R> {
    const { description, retention } = yield* resolve(options)
    yield* writer.ensureQueue(Subjects.engineQueue)
    const id = writer.newId()
    const batch = Subjects.addressOf(id, wire.partitions)
    yield* complete(
      batch,
      0,
      Effect.andThen(
        batches.create(batch, { description }, retention),
        building(batch, retention, 0, build),
      ),
    )
    return id
  })

  /** Waits for its turn to add to a batch. */
  const adopt = Effect.fnUntraced(function* (id: JobId) {
    const giveUp = clock.now() + turnMillis
    while (true) {
      const view = yield* JobView.find(wire, id)
      if (view?.current.envelope.progress.batch === undefined || Records.isHidden(view.current)) {
        return yield* new JobNotFound({ id })
      }
      if (yield* batches.isCancelled(view)) return yield* new BatchClosed({ id, reason: cancelled })
      const generation = yield* batches.adopt(view)
      if (generation !== undefined) return { view, generation }
      if (clock.now() > giveUp) {
        return yield* new BatchClosed({ id, reason: "others add to it all the time" })
      }
      yield* Effect.sleep(turnPause)
    }
  })

  const attach: Batching["attach"] = Effect.fnUntraced(function* <E, R>(
    id: JobId,
    build: (builder: Builder) => Effect.Effect<unknown, E, R>,
  ): Effect.fn.Return<void, E | BatchError, R> {
    const illegal = checkName("id", id)
    if (illegal !== undefined) return yield* illegal
    yield* writer.ensureQueue(Subjects.engineQueue)
    const { generation, view } = yield* adopt(id)
    const { retention } = view.current.envelope.options
    const { address } = view
    yield* complete(address, generation, building(address, retention, generation, build))
  })

  return { create, attach }
}
