/** Values of a Standard Schema to bytes and back. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type Codec, type Mismatch, pathText } from "../../src/core/Codec.ts"
import * as MessagePack from "../../src/core/MessagePack.ts"
import { plainOf } from "./plain.ts"
import type { StandardResult, StandardSchema } from "./StandardSchema.ts"

const thrown = (error: unknown): Mismatch => ({
  path: "",
  reason: error instanceof Error ? error.message : String(error),
})

const outputOf = <A>(result: StandardResult<A>): Exit.Exit<A, Mismatch> => {
  if (result.issues === undefined) return Exit.succeed(result.value)
  const [issue] = result.issues
  return Exit.fail({
    path: pathText(issue?.path),
    reason: issue?.message ?? "its schema refuses it",
  })
}

const isPromise = (value: object): value is PromiseLike<unknown> =>
  "then" in value && typeof value.then === "function"

/** Finished at once where the schema validates at once. */
const validate = <A>(
  schema: StandardSchema<unknown, A>,
  value: unknown,
): Effect.Effect<A, Mismatch> => {
  try {
    const result = schema["~standard"].validate(value)
    return isPromise(result)
      ? Effect.flatMap(Effect.tryPromise({ try: () => result, catch: thrown }), outputOf)
      : outputOf(result)
  } catch (error) {
    return Exit.fail(thrown(error))
  }
}

const pack = (
  value: unknown,
  encode: (value: unknown) => Uint8Array,
): Exit.Exit<Uint8Array, Mismatch> => {
  const kept = plainOf(value)
  if (!("plain" in kept)) return Exit.fail(kept)
  try {
    return Exit.succeed(encode(kept.plain))
  } catch (error) {
    return Exit.fail(thrown(error))
  }
}

const unpack = (bytes: Uint8Array): Exit.Exit<unknown, Mismatch> => {
  try {
    return Exit.succeed(MessagePack.decode(bytes))
  } catch (error) {
    return Exit.fail(thrown(error))
  }
}

/**
 * What a schema makes of a value may not be what it takes. So it is asked, and the value is kept as it
 * was given; who reads it asks again, and gets what the schema makes of it.
 */
export const standard = <A>(schema: StandardSchema<unknown, A>): Codec<A> => {
  const encode = (value: unknown, into: (value: unknown) => Uint8Array) => {
    const checked = validate(schema, value)
    // Of a later step nobody can share the buffer.
    const shared = Exit.isExit(checked) ? into : MessagePack.encode
    return Effect.flatMapEager(checked, () => pack(value, shared))
  }
  return {
    encode: (value) => encode(value, MessagePack.encode),
    encodeShared: (value) => encode(value, MessagePack.encodeShared),
    decode: (bytes) => Effect.flatMapEager(unpack(bytes), (value) => validate(schema, value)),
  }
}

const packed = MessagePack.encode(undefined)

/** Of what has no schema: there is nothing to be kept. */
export const nothing: Codec<void> = {
  encode: (value) => nothing.encodeShared(value),
  encodeShared: (value) =>
    value === undefined ? Exit.succeed(packed) : Exit.fail({
      path: "",
      reason: "the definition has no schema for it, so it has to be undefined",
    }),
  decode: (bytes) =>
    Effect.flatMapEager(unpack(bytes), (value) =>
      value === null ? Exit.void : Exit.fail({
        path: "",
        reason: "there is a value, and the definition has no schema for it",
      })),
}

/** Of what async functions throw: message and stack are kept with the attempt, and no value. */
export const thrownError: Codec<never> = {
  encode: () => Exit.succeed(new Uint8Array(0)),
  encodeShared: () => Exit.succeed(new Uint8Array(0)),
  decode: () => Exit.fail({ path: "", reason: "the definition has no schema for it" }),
}
