/** The engine as its users have it: one job definition, layers, and nothing that only a benchmark has. */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { Job, Nats } from "../../mod.ts"
import { type Payload, payload } from "../support/jobs.ts"
import type { World } from "../support/workload.ts"

/** The job of all benchmarks, with the payload that the loops have. */
export const Welcome = Job.make("mail/welcome", {
  payload: Schema.Struct({ to: Schema.String, template: Schema.String, text: Schema.String }),
  success: Schema.Number,
})

/** What the hand-written loop does with it. */
export const WelcomeLive = Welcome.toLayer(({ text, to }) =>
  Effect.sync(() => to.length + text.length)
)

/** A connection of its own to a world's server. */
export const connectionTo = (
  { namespace, url }: Pick<World, "namespace" | "url">,
): Layer.Layer<Nats.Nats, Nats.ConnectError> => Nats.layer({ servers: url, namespace })

/** The input of many jobs, made as it is read. */
export function* payloads(count: number): Generator<Payload> {
  for (let i = 0; i < count; i++) yield payload
}
