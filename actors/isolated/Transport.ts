/** How the values at the end of a run get from a worker to its server. */
import type * as Effect from "effect/Effect"
import type { Mismatch } from "../../src/core/Codec.ts"
import type { Definition } from "../../src/client/Definition.ts"

/** Bytes of a result are those of its definition; typed errors have their own way in both directions. */
export interface Transport {
  /** The value that the handler returned, from the bytes of the definition's schema. */
  readonly result: (bytes: Uint8Array) => Effect.Effect<unknown, Mismatch>
  readonly packError: (error: unknown) => Effect.Effect<Uint8Array, Mismatch>
  readonly unpackError: (bytes: Uint8Array) => Effect.Effect<unknown, Mismatch>
}

/** Where what a schema encodes is what it decodes. */
export const ofDefinition = ({ error, success }: Definition): Transport => ({
  result: success.decode,
  packError: error.encode,
  unpackError: error.decode,
})
