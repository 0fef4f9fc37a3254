/** The demonstration from its first line to its table. */
import { Client, type JobRecord, Nats } from "../../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { mkdtempSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { account, isFinal, type Job } from "./account.ts"
import { DemoFailed } from "./errors.ts"
import { find, type Found, lookAgain } from "./files.ts"
import { concurrency, Fingerprint, reasonOf, shortLeases } from "./jobs.ts"
import { leftOut } from "./options.ts"
import { plan, type Task } from "./plan.ts"
import { count, type Screen } from "./screen.ts"
import * as Servers from "./servers.ts"
import * as Stage from "./stage.ts"
import { conclude, introduce, invite } from "./words.ts"

/** What was asked for. */
export interface Request {
  readonly folder: string
  readonly keep: boolean
}

/** How far it has come, for who stops it. */
export interface Progress {
  done: number
  total: number
  /** The exit code, once it is decided. */
  code: number | undefined
}

const lookEvery = "40 millis"
/** The kill comes as soon as this part of the jobs is done and it hits something. */
const middle = 0.4
const startWithinMillis = 60_000
/** After so long without a word in a ledger the records are asked. */
const silenceMillis = 1_500
/** After so long without anything at all, what is missing is lost. */
const giveUpMillis = 30_000
const readsAtOnce = 32

type Tasks = ReadonlyMap<string, Task>

const listFiles = Effect.fnUntraced(function* (folder: string) {
  const refuse = (reason: string) =>
    new DemoFailed({ reason: `${reason} Give the path of a folder with files in it.`, code: 3 })
  const seen = yield* Effect.try({
    try: () => statSync(folder),
    catch: (cause) => refuse(`${folder} can't be opened (${reasonOf(cause)}).`),
  })
  if (!seen.isDirectory()) return yield* refuse(`${folder} is no folder.`)
  const found: Found = yield* Effect.promise((signal) => find(folder, signal))
  if (found.files.length > 0) return found
  return yield* refuse(
    `There is no file in ${folder}; folders named ${leftOut.join(", ")} are left out.`,
  )
})

const workFolder = (keep: boolean): Effect.Effect<string, DemoFailed, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try({
      try: () => mkdtempSync(join(tmpdir(), "portfire-demo-")),
      catch: (cause) =>
        new DemoFailed({
          reason: `no folder can be made in ${tmpdir()} (${reasonOf(cause)}). ` +
            "Name one that can be written to in TMPDIR.",
          code: 1,
        }),
    }),
    (folder) =>
      Effect.sync(() => {
        if (!keep) rmSync(folder, { recursive: true, force: true })
      }),
  )

/** Stores the jobs and gives the task of each id. */
const enqueueAll = Effect.fnUntraced(function* (planned: ReadonlyArray<Task>) {
  const payloadOf = ({ file, pauseMillis, stumbles }: Task) => ({
    path: file.path,
    pauseMillis,
    stumbles,
  })
  const tasks = new Map<string, Task>()
  yield* Effect.forEach(
    planned.filter(({ delayMillis }) => delayMillis > 0),
    (task) =>
      Fingerprint.schedule(payloadOf(task), { delay: task.delayMillis }).pipe(
        Effect.map((id) => tasks.set(id, task)),
      ),
    { concurrency: 64, discard: true },
  )
  const now = planned.filter(({ delayMillis }) => delayMillis === 0)
  const ids = yield* Fingerprint.enqueueMany(now.map(payloadOf))
  for (const [index, id] of ids.entries()) tasks.set(id, now[index] as Task)
  return tasks
})

/** The record of a job, or nothing; a NATS server that is just coming back is asked again. */
const recordOf = (id: string) =>
  Fingerprint.get(id).pipe(
    Effect.retry({
      while: (error) => error._tag === "Unavailable",
      schedule: Schedule.spaced("500 millis"),
      times: 20,
    }),
    Effect.catchTag("JobNotFound", () => Effect.succeed(undefined)),
  )

const awaitReady = Effect.fnUntraced(
  function* (stage: Stage.Stage, servers: ReadonlyArray<Servers.ServerProcess>) {
    while (stage.live.servers.size < servers.length) {
      yield* Effect.sleep(lookEvery)
      yield* stage.look
    }
  },
  Effect.timeoutOrElse({
    duration: startWithinMillis,
    orElse: () =>
      Effect.fail(
        new DemoFailed({
          reason: `the servers were not ready within ${startWithinMillis / 1_000} s`,
          code: 1,
        }),
      ),
  }),
)

/** Follows the jobs to their ends, with the kill on the way. */
const follow = Effect.fnUntraced(function* (stage: Stage.Stage, tasks: Tasks, progress: Progress) {
  const { done } = stage.live
  let heard = performance.now()
  let moved = heard
  while (done.size < tasks.size) {
    yield* Effect.sleep(lookEvery)
    const news = yield* stage.look
    progress.done = done.size
    if (done.size >= middle * tasks.size) yield* stage.killOne(tasks)
    stage.showProgress(tasks)
    const now = performance.now()
    if (news) heard = now
    if (news || stage.isBusy()) moved = now
    if (now - moved > giveUpMillis) return
    if (now - heard < silenceMillis) continue
    // Whoever committed the last ones may have been killed before it could say so.
    heard = now
    const open = [...tasks.keys()].filter((id) => !done.has(id)).slice(0, 1_000)
    const records = yield* Effect.forEach(open, recordOf, { concurrency: readsAtOnce })
    for (const record of records) {
      if (record === undefined || !isFinal(record)) continue
      done.add(record.id)
      moved = now
    }
  }
})

/** Reads all records, and all files once more. */
const collect = (screen: Screen, tasks: Tasks) => {
  let read = 0
  const one = Effect.fnUntraced(function* ([id, task]: readonly [string, Task]) {
    const record: JobRecord.JobRecord<{ readonly path: string }> | undefined = yield* recordOf(id)
    const look = yield* Effect.promise((signal) => lookAgain(task.file, signal))
    screen.progress(`  reading the records: ${count(++read)} of ${count(tasks.size)}`)
    return { id, task, record, look } as Job
  })
  return Effect.forEach(tasks, one, { concurrency: readsAtOnce })
}

const perform = Effect.fnUntraced(function* (
  screen: Screen,
  planned: ReadonlyArray<Task>,
  work: string,
  keep: boolean,
  progress: Progress,
) {
  const nats = yield* Nats.Nats
  const address = Option.match(yield* Stream.runHead(nats.status), {
    onNone: () => "",
    onSome: ({ server }) => server,
  })
  screen.line(`  NATS ${nats.server().version} on ${address}, data in ${work}`)
  const servers = yield* Effect.all([Servers.start(1, work), Servers.start(2, work)])
  const stage = Stage.make(screen, servers)
  yield* awaitReady(stage, servers)
  const titles = servers.map(({ pid, title }) => `${title} is process ${pid}`)
  screen.line(`  ${titles.join(", ")}; each runs ${concurrency} jobs at once`)
  screen.line()

  const begun = performance.now()
  const tasks = yield* enqueueAll(planned)
  yield* follow(stage, tasks, progress)
  const millis = performance.now() - begun
  const jobs = yield* collect(screen, tasks)
  yield* stage.look
  const { runs, settled } = stage.live
  const outcome = account({ jobs, runs, settled, kill: stage.kill() })
  conclude(screen, outcome, millis)
  progress.code = outcome.faults.length === 0 ? 0 : 1
  if (!keep) return
  invite(screen, {
    folder: work,
    dataDir: join(work, "nats"),
    address,
    pid: stage.survivors()[0]?.pid ?? 0,
  })
  return yield* Effect.forever(Effect.andThen(Effect.sleep("1 second"), stage.look))
})

/** Runs it; `progress` says how it went, also to who interrupts it. */
export const run = (
  screen: Screen,
  { folder, keep }: Request,
  progress: Progress,
): Effect.Effect<void, Error> => {
  const whole = Effect.gen(function* () {
    const found = yield* listFiles(folder)
    const planned = plan(folder, found.files)
    progress.total = planned.length
    introduce(screen, folder, found, planned)
    const work = yield* workFolder(keep)
    const live = Client.layer.pipe(
      Layer.provideMerge(Nats.layerEmbedded({ dataDir: join(work, "nats") })),
      Layer.provide(shortLeases),
    )
    // A scope of its own: NATS is left when the servers have ended, not before.
    const whileNatsRuns = Effect.scoped(perform(screen, planned, work, keep, progress))
    yield* Effect.provide(whileNatsRuns, live)
  })
  // What the embedded server has to say, for example that it died and is back.
  const logger = Logger.make<unknown, void>(({ message }) => screen.line(`  ${message}`))
  return Effect.scoped(whole).pipe(Effect.provide(Logger.layer([logger])))
}
