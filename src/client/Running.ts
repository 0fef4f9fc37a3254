/**
 * Asks the servers which of them runs a job. A ready message doesn't tell whether somebody holds it,
 * so `processing` is known to the servers alone.
 */
import * as Effect from "effect/Effect"
import type { JobId } from "../core/JobId.ts"
import { ask } from "../nats/Control.ts"
import * as Subjects from "../nats/Subjects.ts"
import type { Wire } from "../nats/Wire.ts"
import type { RunningAttempt } from "./JobRecord.ts"

/** Longest wait for servers that are listed but don't answer. */
const withinMillis = 250

const pick = (answer: unknown): RunningAttempt | undefined => {
  if (!Array.isArray(answer)) return undefined
  const [server, number, started] = answer as Array<unknown>
  return typeof server === "string" && typeof number === "number" && typeof started === "number"
    ? { server, number, started: new Date(started) }
    : undefined
}

/** The attempt that is under way, or `undefined` when no server says that it runs the job. */
export const findRunning = (
  { nats, reader, subjects }: Wire,
  id: JobId,
): Effect.Effect<RunningAttempt | undefined> =>
  reader.newest(Subjects.stateStream(subjects.namespace), [subjects.state("server", "*")]).pipe(
    Effect.orElseSucceed(() => []),
    Effect.flatMap((servers) =>
      servers.length === 0 ? Effect.succeed(undefined) : ask(
        nats.connection,
        subjects.control("find"),
        id,
        { expected: servers.length, withinMillis, pick },
      )
    ),
  )
