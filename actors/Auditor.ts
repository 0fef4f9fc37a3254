/**
 * Looks now and then whether NATS still has what it has acknowledged, and says loudly when it hasn't.
 * It costs one request per partition and round, and one read of a few jobs.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Audit from "../src/nats/Audit.ts"
import type { Wire } from "../src/nats/Wire.ts"
import type { Emit } from "./Event.ts"
import type * as ChildSpec from "./kit/ChildSpec.ts"

/** What was found lately, for the server's health. */
export class Findings {
  #found: ReadonlyArray<{ readonly finding: Audit.Finding; readonly at: number }> = []

  /** Those of the last hour, the newest of each kind and stream. */
  get lately(): ReadonlyArray<Audit.Finding> {
    const now = performance.now()
    this.#found = this.#found.filter(({ at }) => now - at < rememberedMillis)
    return this.#found.map(({ finding }) => finding)
  }

  /** Takes a new one. */
  add(finding: Audit.Finding): void {
    const others = this.#found.filter(({ finding: { code, stream } }) =>
      code !== finding.code || stream !== finding.stream
    )
    this.#found = [...others, { finding, at: performance.now() }]
  }
}

const rememberedMillis = 3_600_000

/** What an auditor works with. */
export interface Options {
  readonly wire: Wire
  /** Gets `AuditFailed` for each finding. */
  readonly emit: Emit
  readonly findings: Findings
  /** Time between two rounds; default 10 seconds. */
  readonly interval?: Duration.Input | undefined
}

/** The auditor of a server, as a child of its supervisor. Loss of NATS makes it wait, never fail. */
export const start = (
  { emit, findings, interval = "10 seconds", wire }: Options,
): ChildSpec.Start => {
  const look = Audit.make(wire)
  const round = Effect.catchTags(
    Effect.flatMap(look, (found) =>
      Effect.forEach(found, (finding) => {
        findings.add(finding)
        emit({ _tag: "AuditFailed", finding })
        return Effect.logError(finding.message)
      }, { discard: true })),
    {
      Unavailable: () => Effect.void,
      Rejected: (error) => Effect.logWarning(`the auditor could not look: ${error.message}`),
    },
  )
  return Effect.succeed(Effect.forever(Effect.andThen(round, Effect.sleep(interval))))
}
