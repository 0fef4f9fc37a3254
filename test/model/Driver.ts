/** Random operations of many clients at once, while servers come and go. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Operation from "../../src/client/Operation.ts"
import * as JobState from "../../src/core/JobState.ts"
import * as Priority from "../../src/core/Priority.ts"
import { Batch, Job } from "../../mod.ts"
import type { JobFilter } from "../../src/client/JobFilter.ts"
import type { Random } from "./Random.ts"
import { type Known, learn, queues, type Step, Take, Work, type World } from "./World.ts"

const weights = {
  enqueue: 14,
  schedule: 8,
  enqueueMany: 2,
  chosen: 4,
  unique: 7,
  after: 12,
  batch: 5,
  attach: 3,
  cancel: 8,
  requeue: 11,
  runNow: 5,
  reschedule: 7,
  move: 7,
  remove: 4,
  where: 1,
}

const payload = (random: Random): { steps: ReadonlyArray<Step>; millis: number } => ({
  steps: Array.from(
    { length: random.between(1, 3) },
    () => random.weighted<Step>({ succeed: 5, fail: 4, crash: 2, snooze: 1 }),
  ),
  millis: random.chance(0.06) ? random.between(100, 250) : random.between(0, 30),
})

const options = (random: Random) => ({
  queue: random.pick(queues),
  priority: random.pick(Priority.all),
  ...(random.chance(0.05) ? { deadline: random.between(20, 200) } : {}),
  ...(random.chance(0.05) ? { ttl: random.between(5, 60) } : {}),
})

const following = (random: Random): Job.Following => ({
  ...(random.chance(0.5) ? {} : { on: random.pick(["any", "failed", "cancelled"] as const) }),
  ...(random.chance(0.6) ? {} : { need: "any" as const }),
  ...(random.chance(0.8) ? {} : { delay: random.between(0, 200) }),
})

/** Mostly one of the newest, which most likely still lives. */
const target = (random: Random, known: ReadonlyArray<Known>): Known =>
  known[
    random.chance(0.7)
      ? Math.max(0, known.length - random.between(1, 25))
      : random.between(0, known.length - 1)
  ] as Known

const targets = (random: Random, known: ReadonlyArray<Known>): ReadonlyArray<string> =>
  Array.from(
    { length: random.weighted({ 1: 6, 2: 2, 3: 1 }) === "1" ? 1 : 2 },
    () => target(random, known).id,
  )

/** Errors by which a call may say that it wasn't possible; nothing else may go wrong. */
const allowed: Partial<Record<keyof typeof weights, ReadonlyArray<string>>> = {
  chosen: ["JobExists"],
  after: ["JobNotFound"],
  batch: ["JobNotFound"],
  attach: ["JobNotFound", "BatchClosed"],
}

/** A member that a builder has added, and to which batch. */
interface Made {
  readonly id: string
  readonly kind: Known["kind"]
  readonly batch: string
}

/** Adds members, and tells of each. */
const build = (
  random: Random,
  known: ReadonlyArray<Known>,
  made: Array<Made>,
  depth = 0,
) =>
(batch: Batch.Builder): Effect.Effect<void, Batch.BatchError> =>
  Effect.gen(function* () {
    const members: Array<string> = []
    const add = (id: string, kind: Known["kind"] = "member") => {
      members.push(id)
      made.push({ id, kind, batch: batch.id })
    }
    for (let left = random.between(depth === 0 ? 0 : 1, 4); left > 0; left--) {
      const what = random.weighted({ now: 5, after: 3, outside: 1, later: 1, many: 1, nested: 1 })
      const parents = what === "after" && members.length > 0
        ? [random.pick(members)]
        : what === "outside" && known.length > 0
        ? targets(random, known)
        : undefined
      if (parents !== undefined) {
        const more = { ...options(random), ...following(random) }
        add(yield* batch.addAfter(parents, Work, payload(random), more))
      } else if (what === "many") {
        const payloads = [payload(random), payload(random)]
        for (const id of yield* batch.addMany(Work, payloads)) add(id)
      } else if (what === "nested" && depth < 2) {
        add(yield* batch.addBatch({}, build(random, known, made, depth + 1)), "batch")
      } else {
        const when = what === "later"
          ? { deadline: "1 minute", delay: random.between(30, 300) } as const
          : {}
        add(yield* batch.add(Work, payload(random), { ...options(random), ...when }))
      }
    }
  })

const learnAll = (world: World, made: ReadonlyArray<Made>) => {
  for (const { id, kind } of made) learn(world, id, kind)
  for (const { batch } of made) learn(world, batch, "batch").members++
}

const moves = {
  cancel: (random: Random, tag: string) =>
    Operation.cancel({ reason: `cancel ${tag} ${random.between(0, 9)}` }),
  requeue: (random: Random) => Operation.requeue({ revive: random.chance(0.5) }),
  runNow: () => Operation.runNow(),
  reschedule: (random: Random) => Operation.reschedule({ delay: random.between(20, 400) }),
  move: (random: Random) =>
    random.chance(0.5)
      ? Operation.move({ queue: random.pick(queues) })
      : Operation.move({ priority: random.pick(Priority.all), queue: random.pick(queues) }),
  remove: () => Operation.remove(),
}

type Move = keyof typeof moves

/** An operation by filter, on what isn't too old, so that others get their turn. */
const where = (random: Random, tag: string): [JobFilter, Operation.Operation] => {
  const queue = random.pick(queues)
  const newerThan = random.between(200, 1_500)
  switch (random.weighted({ cancel: 1, requeue: 2, runNow: 1, move: 1 })) {
    case "cancel": {
      const state = random.pick(["awaiting", "scheduled", "enqueued", "retrying"] as const)
      return [{ state, queue, newerThan: 300 }, Operation.cancel({ reason: `where ${tag}` })]
    }
    case "requeue": {
      const state = random.pick(["failed", "cancelled"] as const)
      return [{ state, queue, newerThan }, Operation.requeue({ revive: random.chance(0.3) })]
    }
    case "runNow":
      return [{ queue, newerThan }, Operation.runNow()]
    case "move":
      return [{ queue, newerThan }, Operation.move({ queue: random.pick(queues) })]
  }
}

/** What an answer must not be, whatever others do meanwhile. */
const wrongAnswer = (operation: Operation.Operation, answer: Operation.Answer) => {
  if (answer._tag !== "changed") return undefined
  const { from, to } = answer
  if (!JobState.accepts[operation._tag].includes(from)) return `does not accept ${from}`
  return operation._tag === "remove" || JobState.can(from, to)
    ? undefined
    : `went from ${from} to ${to}`
}

/** One random operation of a client. */
const step: (world: World, client: number, random: Random, tag: string) => Effect.Effect<void> =
  Effect.fnUntraced(function* (world, client, random, tag) {
    const { provide, client: api } = world.clients[client] as World["clients"][number]
    const known = [...world.known.values()]
    const all = random.weighted(weights)
    const what = known.length === 0 ? "enqueue" : all
    const tell = (one: Known, text: string, answer?: Operation.Answer) => {
      one.told.push({ at: performance.now(), client, text, answer })
    }
    const note = (id: string, kind: Known["kind"] = "plain", text: string = what) =>
      tell(learn(world, id, kind), text)
    const does = Effect.gen(function* () {
      switch (what) {
        case "enqueue":
          return note(yield* Work.enqueue(payload(random), options(random)))
        case "schedule": {
          const when = { deadline: "1 minute", delay: random.between(50, 500) } as const
          return note(yield* Work.schedule(payload(random), { ...options(random), ...when }))
        }
        case "enqueueMany": {
          const payloads = Array.from({ length: random.between(2, 6) }, () => payload(random))
          for (const id of yield* Work.enqueueMany(payloads)) note(id)
          return
        }
        case "chosen": {
          const onConflict = random.pick(["ignore", "replace"] as const)
          const more = random.chance(0.5)
            ? {}
            : { deadline: "1 minute", delay: random.between(20, 300) } as const
          const id = `chosen-${random.between(0, 9)}`
          const told = yield* Work.submit(payload(random), {
            ...{ ...options(random), ...more, id, onConflict },
          })
          return note(told.id, "chosen", `${what} ${onConflict} ${told.created}`)
        }
        case "unique": {
          const onConflict = random.pick(["ignore", "replace"] as const)
          const until = random.pick(["finished", "started", "1 second"] as const)
          const more = random.chance(0.5)
            ? {}
            : { deadline: "1 minute", delay: random.between(20, 300) } as const
          const unique = { key: `key ${random.between(0, 5)}`, until, onConflict }
          const told = yield* Work.submit(payload(random), { ...options(random), ...more, unique })
          // Under a key that expires the job may have been removed.
          if (!told.created && until === "1 second" && !world.known.has(told.id)) return
          return note(
            told.id,
            "plain",
            `${what} ${unique.key} ${until} ${onConflict} ${told.created}`,
          )
        }
        case "after": {
          const parents = targets(random, known)
          if (random.chance(0.3)) {
            const [parent = ""] = parents
            const { on: _, ...rest } = following(random)
            const id = yield* Take.enqueueAfter(parent, Job.parentResult, rest)
            return note(id)
          }
          const more = { ...options(random), ...following(random) }
          return note(yield* Work.enqueueAfter(parents, payload(random), more))
        }
        case "batch": {
          const made: Array<Made> = []
          const id = yield* Batch.create({}, build(random, known, made))
          note(id, "batch")
          return learnAll(world, made)
        }
        case "attach": {
          const batches = known.filter(({ kind }) => kind === "batch")
          if (batches.length === 0) return
          const made: Array<Made> = []
          const batch = target(random, batches)
          // What is there may follow the batch, which would then wait for itself.
          yield* Batch.attach(batch.id, build(random, [], made))
          tell(batch, what)
          return learnAll(world, made)
        }
        case "where": {
          const [filter, operation] = where(random, tag)
          if (operation._tag === "requeue") world.wheres.requeues++
          const { changed, conflicts, matched } = yield* api.operateWhere(filter, operation)
          if (changed + conflicts > matched) world.problems.push(`where: ${changed} of ${matched}`)
          if (operation._tag === "requeue") world.wheres.requeued += changed
          if (operation._tag === "cancel") world.wheres.cancelled.set(operation.reason, changed)
          return
        }
        default: {
          const one = target(random, known)
          const operation = moves[what as Move](random, tag)
          const answer = yield* api.operate(one.id, operation)
          one.done[answer._tag]++
          if (answer._tag === "changed") {
            if (operation._tag === "requeue") one.done.requeued++
            if (operation._tag === "remove") one.done.removed++
            if (operation._tag === "cancel") one.reasons.push(operation.reason)
          }
          tell(one, JSON.stringify(operation), answer)
          const wrong = wrongAnswer(operation, answer)
          if (wrong !== undefined) world.problems.push(`${one.id}: ${operation._tag} ${wrong}`)
        }
      }
    })
    yield* provide(does).pipe(
      Effect.catchCause((cause) => {
        const error = Cause.squash(cause) as Error
        const fine = allowed[what]?.includes(error.name) === true
        if (!fine) world.problems.push(`${what}: ${Cause.pretty(cause)}`)
        return Effect.void
      }),
    )
  })

/** What is driven. */
export interface Drive {
  /** Operations of each client. */
  readonly operations: number
  /** Operations that a client has under way at once. */
  readonly lanes: number
}

/** Lets all clients do their operations. Servers are stopped and started meanwhile, and run after. */
export const drive: (
  world: World,
  random: Random,
  options: Drive,
) => Effect.Effect<void, unknown, Scope.Scope> = Effect.fnUntraced(
  function* (world, random, { lanes, operations }) {
    const restarts = random.fork()
    const first = yield* world.start("one")
    const servers = [first, yield* world.start("two")]
    const conductor = yield* Effect.forkScoped(Effect.forever(Effect.gen(function* () {
      yield* Effect.sleep(restarts.between(300, 1_200))
      const at = restarts.between(0, 1)
      // Whatever happens meanwhile, two of them are there in the end.
      yield* Effect.uninterruptible(Effect.gen(function* () {
        yield* servers[at]?.stop ?? Effect.void
        yield* Effect.sleep(restarts.between(0, 200))
        servers[at] = yield* world.start(at === 0 ? "one" : "two")
      }))
    })))
    yield* Effect.forEach(
      world.clients,
      (_, client) =>
        Effect.forEach(
          Array.from({ length: lanes }, () => random.fork()),
          (own, lane) =>
            Effect.gen(function* () {
              for (let n = 0; n < operations / lanes; n++) {
                yield* step(world, client, own, `${client}.${lane}.${n}`)
                if (own.chance(0.3)) yield* Effect.sleep(own.between(0, 25))
              }
            }),
          { concurrency: "unbounded", discard: true },
        ),
      { concurrency: "unbounded", discard: true },
    )
    yield* Fiber.interrupt(conductor)
  },
)
