/** Counts the subjects under some filters, as long as there are few, without reading their messages. */
import * as Effect from "effect/Effect"
import * as Api from "./Api.ts"
import { type NatsError, Rejected, Unavailable } from "./errors.ts"
import { nothingThere } from "./Reader.ts"
import type { Wire } from "./Wire.ts"

const tooMany = 413

/**
 * How many subjects of a stream match one of the filters, up to 1,024; `Infinity` for more. A direct
 * read: with replicas it may be answered by one that lags behind.
 */
export const count: (
  wire: Wire,
  stream: string,
  filters: ReadonlyArray<string>,
) => Effect.Effect<number, NatsError> = Effect.fnUntraced(function* (wire, stream, filters) {
  const operation = `counting in ${stream}`
  while (true) {
    const { headers } = yield* Api.request(
      wire.nats.connection,
      `$JS.API.DIRECT.GET.${stream}`,
      `{"multi_last":["${filters.join('","')}"],"batch":1}`,
      operation,
    )
    const pending = headers?.get("Nats-Num-Pending") ?? ""
    if (pending !== "") return Number(pending) + 1
    const { code = 0, description = "no answer" } = headers ?? {}
    if (code === 404 && description === nothingThere) return 0
    // The first of them was deleted while the answer was made up: the others are still to be counted.
    if (code === 404) continue
    if (code === tooMany) return Number.POSITIVE_INFINITY
    return yield* code === 503
      ? new Unavailable({ operation })
      : new Rejected({ operation, code: 0, status: code, description })
  }
})
