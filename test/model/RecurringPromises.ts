/** Holds runs of recurring entries against what clients were told, and nothing else. */
import type * as History from "./History.ts"
import { payloadOf, type Run, toleranceMillis } from "./RecurringRuns.ts"
import { isNominal, timesBetween } from "./RecurringTimes.ts"
import type { Told, World } from "./RecurringWorld.ts"

/** When a change that comes after another may have begun to count, at the earliest. */
const firstCall = (told: ReadonlyArray<Told>, after: Told, ops: ReadonlyArray<string>): number =>
  told.filter((other) => other !== after && other.returned >= after.called)
    .filter(({ what }) => ops.includes(what.op === "none" ? what.tried : what.op))
    .reduce((least, { called }) => Math.min(least, called), Infinity)

/** Holds runs against what clients were told, whatever the entry's messages say. */
export const wrongPromises = (
  world: World,
  entry: string,
  runs: ReadonlyArray<Run>,
): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  const told = world.told.filter((one) => one.entry === entry)
  const timed = runs.filter(({ byHand }) => !byHand)
  const times = new Set<number>()
  for (const { at, id } of timed) {
    if (times.has(at)) wrong.push(`${at} has two runs, one is ${id}`)
    times.add(at)
  }
  for (const one of told) {
    const { returned, what } = one
    if (what.op === "pause") {
      const end = firstCall(told, one, ["resume", "remove", "upsert"])
      const inside = timed.filter(({ at }) =>
        at > returned + toleranceMillis && at < end - toleranceMillis
      )
      if (inside.length > 0) wrong.push(`was paused from ${returned} to ${end}: ${inside[0]?.id}`)
    }
    if (what.op === "remove") {
      const end = firstCall(told, one, ["upsert"])
      const inside = runs.filter(({ created }) =>
        created > returned + toleranceMillis && created < end - toleranceMillis
      )
      if (inside.length > 0) wrong.push(`was removed from ${returned} to ${end}: ${inside[0]?.id}`)
    }
    if (what.op === "trigger") {
      const own = runs.filter(({ id }) => id === what.id)
      const mayBeGone = told.some((other) =>
        other.what.op === "remove" && other.returned >= one.called
      )
      if (own.length === 0 && !mayBeGone) wrong.push(`${what.id} was asked for, and not made`)
    }
    if (what.op === "upsert") {
      const spec = world.specs.get(what.n)
      if (spec === undefined) continue
      const end = firstCall(told, one, ["upsert", "remove", "pause"])
      const own = timed.filter(({ created }) =>
        created > returned + toleranceMillis && created < end - toleranceMillis
      )
      for (const { at, id, messages } of own) {
        if (!isNominal(spec, at)) wrong.push(`${id} for ${at} is no time of ${what.n}`)
        const n = payloadOf((messages[0] as History.Stored).envelope)
        if (n !== what.n) wrong.push(`${id} is a run of ${n}, and ${what.n} was declared`)
      }
      const wasPaused = told.some(({ called, what }) => what.op === "pause" && called < end)
      const isPlain = !wasPaused && spec.misfire.policy === "all" && spec.limit === undefined &&
        spec.overlap === "allow"
      const seen = own.reduce((last, { at }) => Math.max(last, at), 0)
      const expected = isPlain ? timesBetween(spec, returned + toleranceMillis, seen) : []
      const missing = expected.filter((at) => !times.has(at))
      // One step catches up with as many as the cap says.
      const isCapped = spec.misfire.policy === "all" && spec.misfire.cap < 100
      if (missing.length > 0 && !isCapped) wrong.push(`${missing} are missing of ${what.n}`)
    }
  }
  // Whoever reads sees what others were told before.
  const isRemoved = told.some(({ what }) => what.op === "remove" && what.was)
  // One that was removed long ago counts from the beginning.
  const revisions = isRemoved
    ? []
    : told.flatMap((one) =>
      "revision" in one.what && one.what.revision !== undefined
        ? [{ ...one, revision: one.what.revision }]
        : []
    )
  for (const one of revisions) {
    const older = revisions.find((other) =>
      other.called > one.returned && other.revision < one.revision
    )
    if (older !== undefined) wrong.push(`went from revision ${one.revision} to ${older.revision}`)
  }
  return wrong
}
