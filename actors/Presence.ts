/**
 * Says that this server is there, and what it is: a message in the STATE stream that expires by
 * itself when it is not renewed, and is removed by a clean stop.
 */
import * as Effect from "effect/Effect"
import * as MessagePack from "../src/core/MessagePack.ts"
import * as Api from "../src/nats/Api.ts"
import { stateStream } from "../src/nats/Subjects.ts"
import type { Wire } from "../src/nats/Wire.ts"
import type * as ChildSpec from "./kit/ChildSpec.ts"

/** What a server says of itself. */
export interface Description {
  readonly id: string
  readonly host: string
  readonly pid: number
  /** `bun`, `deno` or `node`, with its version. */
  readonly runtime: string
  /** When it started, in ms since 1970. */
  readonly started: number
  /** Its pools: queues in strict order, and slots. */
  readonly pools: ReadonlyArray<
    { readonly queues: ReadonlyArray<string>; readonly slots: number }
  >
  /** Names of the jobs it can run. */
  readonly jobs: ReadonlyArray<string>
}

const renewEvery = "10 seconds"
const livesForSeconds = 35

/** The presence of a server, as a child of its supervisor. */
export const start = (wire: Wire, description: Description): ChildSpec.Start => {
  const { nats, publisher, subjects } = wire
  const subject = subjects.state("server", description.id)
  const payload = MessagePack.encode(description)
  const announce = Effect.callback<void>((resume) => {
    const headers = `Nats-TTL: ${livesForSeconds}s\r\n`
    // The next announcement repeats what this one may not achieve.
    publisher.publish(
      { subject, payload, headers, expected: undefined, filter: subject, patience: 0 },
      () => resume(Effect.void),
    )
  })
  const leave = Effect.ignore(
    Api.call(
      nats.connection,
      `STREAM.PURGE.${stateStream(subjects.namespace)}`,
      { filter: subject },
      "removing this server's presence",
      1_000,
    ),
  )
  return Effect.as(
    Effect.acquireRelease(announce, () => leave),
    Effect.forever(Effect.andThen(Effect.sleep(renewEvery), announce)),
  )
}
