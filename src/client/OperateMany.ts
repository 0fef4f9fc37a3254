/**
 * Operations on several jobs: on a list of ids, one by one, and on all that match a filter, which is
 * one durable command that a server runs, so that it is done even if who asked for it dies. Where no
 * server is there, who asks does it (W16).
 */
import * as Effect from "effect/Effect"
import { InvalidOptions } from "../core/errors.ts"
import type { JobId } from "../core/JobId.ts"
import * as JobState from "../core/JobState.ts"
import { maxInstantMillis } from "../core/Limits.ts"
import * as MessagePack from "../core/MessagePack.ts"
import { checkKeys, checkName, show } from "../core/Names.ts"
import * as Conditional from "../nats/Conditional.ts"
import { type NatsError, Rejected } from "../nats/errors.ts"
import * as JobView from "../nats/JobView.ts"
import type * as Records from "../nats/Records.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import type { Awaiting } from "./Awaiting.ts"
import * as Command from "./Command.ts"
import { CurrentJob } from "./CurrentJob.ts"
import * as Servers from "./InspectServers.ts"
import * as JobFilter from "./JobFilter.ts"
import * as Operate from "./Operate.ts"
import * as OperateWhere from "./OperateWhere.ts"
import { type Answer, type Expected, expectedKeys, type Operation } from "./Operation.ts"

/** What became of an operation on all jobs that match a filter. */
export interface Changes {
  /** Jobs that were met and match. */
  readonly matched: number
  /** Jobs that were changed. */
  readonly changed: number
  /** Jobs that had moved on when their turn came, or that it couldn't be done for. */
  readonly conflicts: number
  /** Whether nothing was to be changed. */
  readonly dryRun: boolean
}

/** How an operation by filter is done. */
export interface WhereOptions {
  /** Only count what matches. */
  readonly dryRun?: boolean | undefined
}

/** The operations on several jobs. */
export interface OperateMany {
  readonly operateAll: (
    ids: ReadonlyArray<JobId>,
    operation: Operation,
    expected?: Expected,
  ) => Effect.Effect<ReadonlyArray<Answer>, Operate.OperateError>
  readonly operateWhere: (
    filter: JobFilter.JobFilter,
    operation: Operation,
    options?: WhereOptions,
  ) => Effect.Effect<Changes, Operate.OperateError>
}

/** Most ids of one call. */
const maxIds = 10_000
/** Ids that are operated on at once. */
const concurrency = 16
/** How long a server is waited for before it is asked whether any is there, in ms. */
const lookMillis = 3_000
/** Partition of the command. */
const partition = 0

/** The command that does an operation by filter; its record is kept for whoever waits for it. */
export const whereCommand: ReturnType<typeof Command.define> = Command.define("_where", {})

const isOperation = (operation: unknown): operation is Operation =>
  typeof operation === "object" && operation !== null && "_tag" in operation &&
  Object.hasOwn(JobState.accepts, String(operation._tag))

const checkOperation = (operation: unknown): InvalidOptions | undefined =>
  isOperation(operation) ? undefined : new InvalidOptions({
    field: "operation",
    value: show(operation),
    reason: "it is made by a function of Operation",
  })

/** Without what is `undefined`, which MessagePack would make a value of. */
const plain = (value: object): object =>
  Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined))

const encode = ({ asked, cutoffs, filter, operation }: OperateWhere.Request) => [
  plain(operation),
  plain(filter),
  cutoffs,
  asked,
]

const decode = (payload: unknown): OperateWhere.Request | undefined => {
  if (!Array.isArray(payload)) return undefined
  const [operation, filter, cutoffs, asked] = payload as Array<unknown>
  return isOperation(operation) && isWhole(operation) && JobFilter.isResolved(filter) &&
      Array.isArray(cutoffs) && cutoffs.every(isSequence) && typeof asked === "number"
    ? { operation, filter, cutoffs, asked }
    : undefined
}

const isSequence = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) >= 0

const isTime = (value: unknown): boolean =>
  value === undefined || typeof value === "number" && value >= 0 && value < maxInstantMillis

/** Whether an operation that was read has what it needs, and nothing that was never checked. */
const isWhole = (operation: Operation): boolean => {
  switch (operation._tag) {
    case "cancel":
      return typeof operation.reason === "string"
    case "move":
      return (operation.queue === undefined || checkName("queue", operation.queue) === undefined) &&
        (operation.lane === undefined || [1, 2, 3, 4].includes(operation.lane))
    case "reschedule":
      return isTime(operation.at) && isTime(operation.delay)
    default:
      return true
  }
}

const isTally = (value: unknown): value is OperateWhere.Tally =>
  typeof value === "object" && value !== null &&
  ["matched", "changed", "conflicts"].every((key) => Number.isInteger(Reflect.get(value, key)))

/** How long the numbers of a command are kept after the last page, in seconds. */
const rememberedSeconds = 3_600

/**
 * The numbers of a command so far, kept beside it after each page: whoever goes on after a lost server
 * counts on from there. They lack at most the page that was under way.
 */
const memoryOf: (
  wire: Wire,
  id: JobId,
) => Effect.Effect<OperateWhere.Memory, NatsError> = Effect.fnUntraced(function* (wire, id) {
  const { publisher, reader, subjects } = wire
  const subject = subjects.state("where", id)
  const [kept] = yield* reader.newest(Subjects.stateStream(subjects.namespace), [subject])
  const before = kept === undefined ? undefined : MessagePack.decodeOrNothing(kept.data)
  return {
    before: isTally(before) ? before : OperateWhere.nothing,
    keep: (tally) => {
      const headers = `Nats-TTL: ${rememberedSeconds}s\r\n`
      const payload = MessagePack.encode(tally)
      const message = { subject, payload, headers, expected: undefined, filter: subject }
      // The next page's says more than one that got lost.
      publisher.publish({ ...message, patience: 0 }, () => {})
    },
  }
})

/** Runs a stored command. What isn't one changes nothing. */
export const runCommand: (
  context: Operate.Context,
  payload: unknown,
) => Effect.Effect<OperateWhere.Tally, Operate.OperateError, CurrentJob> = Effect.fnUntraced(
  function* (context, payload) {
    const { id } = yield* CurrentJob
    const request = decode(payload)
    if (request === undefined) return OperateWhere.nothing
    return yield* OperateWhere.run(context, request, yield* memoryOf(context.wire, id))
  },
)

const resultOf = (
  { envelope: { outcome }, subject }: Records.JobMessage,
): Effect.Effect<OperateWhere.Tally, NatsError> =>
  subject.state === "succeeded" && outcome?.result !== undefined
    ? Effect.succeed(MessagePack.decode(outcome.result) as OperateWhere.Tally)
    : Effect.fail(
      new Rejected({
        operation: "changing jobs by a filter",
        code: 0,
        status: 0,
        description: outcome?.reason ?? "the command was cancelled",
      }),
    )

/** Makes them for a namespace. */
export const make = (context: Operate.Context, awaiting: Awaiting): OperateMany => {
  const { patience, wire } = context

  const operateAll: OperateMany["operateAll"] = Effect.fnUntraced(
    function* (ids, operation, expected) {
      const refused = checkOperation(operation) ??
        (expected === undefined ? undefined : checkKeys("expected", expected, expectedKeys))
      if (refused !== undefined) return yield* refused
      if (!Array.isArray(ids) || ids.length > maxIds) {
        const value = Array.isArray(ids) ? `${ids.length} ids` : show(ids)
        const reason = `it is a list of at most ${maxIds} ids; for more there is operateWhere`
        return yield* new InvalidOptions({ field: "ids", value, reason })
      }
      for (const [index, id] of ids.entries()) {
        const illegal = checkName(`ids[${index}]`, id)
        if (illegal !== undefined) return yield* illegal
      }
      return yield* Effect.forEach(
        ids,
        (id) => Operate.operate(context, id, JobView.find(wire, id), operation, expected),
        { concurrency },
      )
    },
  )

  /** Stores the command. */
  const store = Effect.fnUntraced(function* (request: OperateWhere.Request) {
    yield* context.ensureQueue(Subjects.engineQueue)
    const { id, payload, subject } = Command.message(
      wire,
      partition,
      "_where",
      encode(request),
      whereCommand.retentionClass,
    )
    const address = { partition, group: Subjects.noGroup, id }
    const filter = wire.subjects.job(address)
    const sequence = yield* Conditional.publish(wire, partition, {
      subject,
      payload,
      filter,
      expected: 0,
      patience,
    })
    return { id, sequence }
  })

  /** Whether a server answers; one that says it is there may have been killed. */
  const isServed = Effect.flatMap(
    Servers.present(wire),
    ({ length }) => Effect.map(Servers.describe(wire, length, 0), ({ size }) => size > 0),
  )

  /** Does it here. The command goes last: until then a server that comes up does it too. */
  const runHere = Effect.fnUntraced(function* (
    request: OperateWhere.Request,
    { id, sequence }: Effect.Success<ReturnType<typeof store>>,
  ) {
    const tally = yield* OperateWhere.run(context, request, yield* memoryOf(wire, id))
    if (sequence !== undefined) {
      Conditional.announceVoid(wire, partition, [sequence])
      yield* Conditional.remove(wire, partition, sequence)
    }
    return tally
  })

  const operateWhere: OperateMany["operateWhere"] = Effect.fnUntraced(
    function* (filter, operation, options = {}) {
      const refused = checkOperation(operation) ?? checkKeys("options", options, ["dryRun"])
      if (refused !== undefined) return yield* refused
      const asked = wire.clock.now()
      const resolved = JobFilter.resolve(filter, operation, asked)
      if (resolved instanceof InvalidOptions) return yield* resolved
      const cutoffs = yield* OperateWhere.newestSequences(wire)
      const request = { operation, filter: resolved, cutoffs, asked }
      if (options.dryRun === true) {
        const matched = yield* OperateWhere.count(wire, request)
        return { matched, changed: 0, conflicts: 0, dryRun: true }
      }
      if (operation._tag === "move" && operation.queue !== undefined) {
        yield* context.ensureQueue(operation.queue)
      }
      const command = yield* store(request)
      while (yield* isServed) {
        const record = yield* Effect.catchTags(awaiting.ended(command.id, lookMillis), {
          AwaitTimedOut: () => Effect.succeed(undefined),
          JobNotFound: lost,
          UnreadableRecord: lost,
        })
        if (record !== undefined) return { ...yield* resultOf(record), dryRun: false }
      }
      return { ...yield* runHere(request, command), dryRun: false }
    },
  )

  return { operateAll, operateWhere }
}

const lost = (error: Error): Effect.Effect<never, Rejected> =>
  Effect.fail(
    new Rejected({
      operation: "changing jobs by a filter",
      code: 0,
      status: 0,
      description: error.message,
    }),
  )
