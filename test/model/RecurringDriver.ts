/** Random changes of recurring entries by many clients at once, while servers come and go. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { Recurring } from "../../mod.ts"
import type { Random } from "./Random.ts"
import { minuteOf, nextAfter, type Spec, type When } from "./RecurringTimes.ts"
import { queues, type Running, Tick, type Told, type World } from "./RecurringWorld.ts"

/** What is driven. */
export interface Drive {
  readonly entries: number
  /** How long, in ms. */
  readonly millis: number
  /** Changes that a client has under way at once. */
  readonly lanes: number
}

const weights = {
  same: 3,
  payload: 6,
  schedule: 4,
  rules: 6,
  pause: 2,
  resume: 5,
  trigger: 6,
  remove: 2,
  get: 5,
  sync: 1,
}

const zones: ReadonlyArray<string> = [
  "UTC",
  "Europe/Berlin",
  "Asia/Kathmandu",
  "Australia/Lord_Howe",
  "America/St_Johns",
]

const seconds = Array.from({ length: 60 }, (_, second) => second)

const when = (random: Random): When => {
  const now = Date.now()
  switch (random.weighted({ every: 5, cron: 4, at: 1 })) {
    case "every": {
      const millis = random.chance(0.5)
        ? random.between(1, 3) * 1_000
        : random.between(1_000, 3_000)
      return { kind: "every", millis, offset: random.chance(0.5) ? 0 : random.between(0, 2_999) }
    }
    case "cron": {
      const step = random.between(1, 4)
      const some = random.chance(0.6)
        ? seconds.filter((second) => second % step === 0)
        : seconds.filter(() => random.chance(0.4))
      const zone = random.pick(zones)
      const minutes = random.chance(0.8) ? undefined : [minuteOf(zone, now)]
      return { kind: "cron", seconds: some.length === 0 ? [0, 30] : some, minutes, zone }
    }
    case "at": {
      const instants = new Set(
        Array.from({ length: random.between(1, 8) }, () => now + random.between(-2_000, 8_000)),
      )
      return { kind: "at", instants: [...instants].sort((a, b) => a - b) }
    }
  }
}

type Rules = Pick<Spec, "limit" | "misfire" | "overlap" | "jitter" | "until">

const rules = (random: Random): Rules => ({
  limit: random.chance(0.2) ? random.between(1, 6) : undefined,
  until: random.chance(0.15) ? Date.now() + random.between(500, 6_000) : undefined,
  misfire: random.pick([
    { policy: "once", tolerance: random.pick([100, 1_000, 5_000]) },
    { policy: "all", cap: random.pick([2, 100, 100]) },
    { policy: "skip", tolerance: random.pick([500, 2_000, 60_000]) },
  ]),
  overlap: random.pick(["allow", "skip", "queueOne"] as const),
  jitter: random.chance(0.75) ? 0 : random.between(50, 700),
})

const work = (random: Random): Pick<Spec, "millis" | "queue" | "steps"> => ({
  queue: random.pick(queues),
  steps: random.chance(0.7) ? [] : Array.from(
    { length: random.between(1, 3) },
    () => random.weighted({ succeed: 2, fail: 4, crash: 1 }),
  ),
  millis: random.chance(0.25) ? random.between(400, 1_500) : random.between(0, 60),
})

/** How many entries are synced as a set. */
const inSet = 6

let lastSpec = 0

const specOf = (random: Random): Spec => {
  const spec = {
    n: ++lastSpec,
    when: when(random),
    from: random.chance(0.15) ? Date.now() + random.between(-2_000, 3_000) : undefined,
    ...rules(random),
    ...work(random),
  }
  if (spec.overlap === "allow" || random.chance(0.7)) return spec
  // Each run is still there at the next time, and at the one after it.
  return {
    ...spec,
    when: { kind: "every", millis: 1_000, offset: 0 },
    millis: random.between(1_100, 2_500),
  }
}

const scheduleOf = (when: When): Recurring.Schedule => {
  switch (when.kind) {
    case "every":
      return { every: when.millis, offset: when.offset }
    case "cron":
      return `${when.seconds} ${when.minutes ?? "*"} * * * *`
    case "at":
      return { at: when.instants }
  }
}

const optionsOf = ({ from, millis, n, steps, until, when, ...rest }: Spec) => ({
  job: Tick,
  payload: { n, steps, millis },
  schedule: scheduleOf(when),
  timeZone: when.kind === "cron" ? when.zone : undefined,
  // `until` may be drawn before `from`, which is refused.
  from,
  until: from !== undefined && until !== undefined ? Math.max(from, until) : until,
  ...rest,
})

const withOwnUntil = (spec: Spec): Spec => ({ ...spec, until: optionsOf(spec).until })

type Result = Told["what"]

/** Does something to an entry, and notes what was said. */
const tell = (
  world: World,
  client: number,
  entry: string,
  op: string,
  does: Effect.Effect<Result, unknown, never>,
  spec?: Spec,
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const called = Date.now()
    const note = (what: Result) => {
      world.told.push({ entry, client, called, returned: Date.now(), what })
    }
    return does.pipe(
      Effect.map(note),
      Effect.catchCause((cause) => {
        const error = Cause.squash(cause) as Error
        const isFine = op === "upsert"
          ? error.name === "InvalidOptions" && spec !== undefined &&
            nextAfter(spec, Date.now()) === undefined
          : error.name === "RecurringNotFound" && op !== "remove"
        if (!isFine) world.problems.push(`${entry}: ${op}: ${Cause.pretty(cause)}`)
        note({ op: "none", tried: op })
        return Effect.void
      }),
    )
  })

/** Lets a client declare an entry. */
const declare = (world: World, client: number, entry: string, drawn: Spec): Effect.Effect<void> => {
  const { provide } = world.clients[client] as World["clients"][number]
  const spec = withOwnUntil(drawn)
  world.specs.set(spec.n, spec)
  return tell(
    world,
    client,
    entry,
    "upsert",
    provide(Effect.map(
      Recurring.upsert(entry, optionsOf(spec)),
      ({ change, entry: { revision } }) => ({ op: "upsert", n: spec.n, change, revision }),
    )),
    spec,
  )
}

const pauseOne = (world: World, client: number, entry: string): Effect.Effect<void> => {
  const { provide } = world.clients[client] as World["clients"][number]
  const does = Effect.map(
    Recurring.pause(entry),
    ({ revision }): Result => ({ op: "pause", revision }),
  )
  return tell(world, client, entry, "pause", provide(does))
}

/** Lets a client sync the set of the last entries, some of which may be left out. */
const syncSome = Effect.fnUntraced(function* (
  world: World,
  latest: Map<string, Spec>,
  client: number,
  random: Random,
) {
  const { provide } = world.clients[client] as World["clients"][number]
  const chosen = [...latest].slice(-inSet).filter(() => random.chance(0.7))
    .map(([entry, before]): [string, Spec] => [
      entry,
      random.chance(0.5) ? before : withOwnUntil(specOf(random)),
    ])
  for (const [entry, spec] of chosen) {
    latest.set(entry, spec)
    world.specs.set(spec.n, withOwnUntil(spec))
  }
  const declarations = chosen.map(([entry, spec]) => Recurring.define(entry, optionsOf(spec)))
  const removeOthers = random.chance(0.5)
  const called = Date.now()
  const synced = yield* provide(Recurring.sync(declarations, { removeOthers })).pipe(
    Effect.catchCause((cause) => {
      world.problems.push(`sync: ${Cause.pretty(cause)}`)
      return Effect.succeed(undefined)
    }),
  )
  const returned = Date.now()
  const note = (entry: string, what: Result) => {
    world.told.push({ entry, client, called, returned, what })
  }
  for (const [entry, { n }] of chosen) {
    for (const change of ["created", "changed", "unchanged"] as const) {
      if (synced?.[change].includes(entry)) note(entry, { op: "upsert", n, change })
    }
  }
  for (const entry of synced?.removed ?? []) note(entry, { op: "remove", was: true })
})

const step = (
  world: World,
  latest: Map<string, Spec>,
  client: number,
  random: Random,
  entry: string,
): Effect.Effect<void> => {
  const { provide } = world.clients[client] as World["clients"][number]
  const old = latest.get(entry)
  const what = old === undefined ? "schedule" : random.weighted(weights)
  const put = (spec: Spec) => {
    latest.set(entry, spec)
    return declare(world, client, entry, spec)
  }
  const does = (op: string, effect: Effect.Effect<Result, unknown, never>) =>
    tell(world, client, entry, op, effect)
  const before = old ?? specOf(random)
  switch (what) {
    case "same":
      return put(before)
    case "payload":
      return put({ ...before, ...work(random), n: ++lastSpec })
    case "rules":
      return put({ ...before, ...rules(random), n: ++lastSpec })
    case "schedule":
      return put(specOf(random))
    case "pause":
      return pauseOne(world, client, entry)
    case "resume":
      return does(
        what,
        provide(Effect.map(Recurring.resume(entry), ({ revision }) => ({ op: what, revision }))),
      )
    case "sync":
      return syncSome(world, latest, client, random)
    case "get":
      return does(
        what,
        provide(Effect.map(Recurring.get(entry), ({ revision }) => ({ op: what, revision }))),
      )
    case "trigger":
      return does(
        what,
        provide(Effect.map(Recurring.trigger(entry), (id) => ({ op: what, id }))),
      )
    case "remove":
      return does(
        what,
        provide(Effect.map(Recurring.remove(entry), (was) => ({ op: what, was }))),
      )
  }
}

/** Beyond it, in ms, servers may all be away for so long that their absence counts as an outage. */
const longDrive = 12_000

/** Servers stop, are cut off, stay away for a while; in the end two of them are there. */
const conduct = Effect.fnUntraced(function* (world: World, random: Random, millis: number) {
  const names = ["one", "two", "three"].slice(0, random.between(2, 3))
  const running = new Map<string, Running>()
  for (const name of names) running.set(name, yield* world.start(name))
  const end = Effect.fnUntraced(function* (name: string) {
    const server = running.get(name)
    running.delete(name)
    yield* (random.chance(0.5) ? server?.cut : server?.stop) ?? Effect.void
  })
  const begin = Effect.fnUntraced(function* (name: string) {
    if (!running.has(name)) running.set(name, yield* world.start(name))
  })
  return yield* Effect.forkScoped(Effect.forever(Effect.gen(function* () {
    yield* Effect.sleep(random.between(300, 1_500))
    const isAll = random.chance(0.25)
    const chosen = isAll ? names : [random.pick(names)]
    // Whatever happens meanwhile, they are there in the end.
    yield* Effect.uninterruptible(Effect.gen(function* () {
      yield* Effect.forEach(chosen, end, { concurrency: "unbounded", discard: true })
      const longest = millis > longDrive && random.chance(0.3) ? 8_000 : 3_000
      yield* Effect.sleep(random.between(0, isAll ? longest : 300))
      yield* Effect.forEach(chosen, begin, { discard: true })
    }))
  })))
})

/** Lets all clients change entries, while servers come and go. */
export const drive: (
  world: World,
  random: Random,
  options: Drive,
) => Effect.Effect<ReadonlyArray<string>, unknown, Scope.Scope> = Effect.fnUntraced(
  function* (world, random, { entries, lanes, millis }) {
    const names = Array.from({ length: entries }, (_, index) => `entry ${index}`)
    const conductor = yield* conduct(world, random.fork(), millis)
    const latest = new Map<string, Spec>()
    const declaring = random.fork()
    yield* Effect.forEach(names, (entry, index) => {
      const spec = specOf(declaring)
      latest.set(entry, spec)
      return declare(world, index % world.clients.length, entry, spec)
    }, { concurrency: 8, discard: true })
    const end = performance.now() + millis
    yield* Effect.forEach(
      world.clients.flatMap((_, client) => Array.from({ length: lanes }, () => client)),
      (client) => {
        const own = random.fork()
        return Effect.gen(function* () {
          while (performance.now() < end) {
            yield* Effect.sleep(own.between(0, 350))
            // Some are changed by many at once.
            const at = own.chance(0.3) ? own.between(0, 2) : own.between(0, entries - 1)
            yield* step(world, latest, client, own, names[at] as string)
          }
        })
      },
      { concurrency: "unbounded", discard: true },
    )
    yield* Fiber.interrupt(conductor)
    return names
  },
)

/** Pauses all entries that are there. */
export const pauseAll = (
  world: World,
  names: ReadonlyArray<string>,
): Effect.Effect<void> =>
  Effect.forEach(
    names,
    (entry, index) => pauseOne(world, index % world.clients.length, entry),
    { concurrency: 8, discard: true },
  )
