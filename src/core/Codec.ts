/**
 * Values of a schema to MessagePack bytes and back.
 *
 * A value goes through its schema's canonical JSON form, so everything a schema can describe
 * survives the trip (dates, bytes, bigint, `undefined`, options, maps, classes), a reader in another
 * language meets plain data, and what doesn't match the schema is refused. A schema whose declaration
 * sets `toCodecJson: () => undefined` keeps its value as it is; {@link Bytes} uses that to carry bytes
 * as MessagePack's own binary instead of as text.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import * as MessagePack from "./MessagePack.ts"

/** Why a value couldn't be encoded or decoded. */
export interface Mismatch {
  /** Path inside the value, for example `.to` or `[3].name`; empty for the value itself. */
  readonly path: string
  /** What the schema or the encoder said. */
  readonly reason: string
}

/** Both directions for one schema. The effects of ordinary schemas are already finished (`Exit`). */
export interface Codec<A> {
  /** To bytes. */
  readonly encode: (value: unknown) => Effect.Effect<Uint8Array, Mismatch>
  /**
   * To bytes that the next encoding overwrites, if the effect is finished already: to be copied with
   * the eager operators, since any other step may let another fiber encode first.
   */
  readonly encodeShared: (value: unknown) => Effect.Effect<Uint8Array, Mismatch>
  /** From bytes. */
  readonly decode: (bytes: Uint8Array) => Effect.Effect<A, Mismatch>
}

/** A schema that needs no services, the only kind a job can have: any server must be able to run it. */
export type AnySchema = Schema.ConstraintCodec<unknown, unknown, never, never>

/** Bytes that travel as MessagePack's binary; `Schema.Uint8Array` works too, as base64 text. */
export const Bytes: Schema.Codec<Uint8Array, Uint8Array> = Schema.declare<Uint8Array>(
  (input): input is Uint8Array => input instanceof Uint8Array,
  { expected: "Uint8Array", toCodecJson: () => undefined },
) as never

const readyMade = "portfire/core/Codec"

/**
 * A schema that stands for a codec which is no work of Effect's: definitions that have it use the
 * codec. An `encode` that gives no bytes at all says, of an error, that it isn't to be kept.
 */
export const schemaOf = <A>(codec: Codec<A>): Schema.Codec<A, unknown> =>
  Schema.Unknown.annotate({ [readyMade]: codec }) as unknown as Schema.Codec<A, unknown>

const formatter = SchemaIssue.makeFormatterStandardSchemaV1()

/** The path of an issue as text. */
export const pathText = (
  path: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined,
): string =>
  (path ?? []).map((part) => {
    const key = typeof part === "object" ? part.key : part
    return typeof key === "number" ? `[${key}]` : `.${String(key)}`
  }).join("")

const mismatchOf = (issue: SchemaIssue.Issue): Mismatch => {
  const first = formatter(issue).issues[0]
  return { path: pathText(first?.path), reason: first?.message ?? String(issue) }
}

const thrown = (error: unknown): Mismatch => ({
  path: "",
  reason: error instanceof Error ? error.message : String(error),
})

/**
 * A schema's work with what it throws made a mismatch: a getter that throws, a value that is its own
 * part or goes deeper than the stack. Stays finished where it was.
 */
const guarded = <A>(
  work: () => Effect.Effect<A, SchemaIssue.Issue>,
): Effect.Effect<A, Mismatch> => {
  const result = Effect.mapErrorEager(work(), mismatchOf)
  if (!Exit.isExit(result)) return Effect.catchDefect(result, (error) => Effect.fail(thrown(error)))
  return Exit.isFailure(result) && Cause.hasDies(result.cause)
    ? Exit.fail(thrown(Cause.squash(result.cause)))
    : result
}

/** Makes the codec of a schema. */
export const make = <S extends AnySchema>(schema: S): Codec<S["Type"]> => {
  const ready = Schema.resolveAnnotations(schema)?.[readyMade]
  if (ready !== undefined) return ready as Codec<S["Type"]>
  const json = Schema.toCodecJson(schema)
  const toJson = SchemaParser.encodeUnknownEffect(json)
  const fromJson = SchemaParser.decodeUnknownEffect(json)
  const packWith = (encode: (value: unknown) => Uint8Array) =>
  (
    value: unknown,
  ): Effect.Effect<Uint8Array, Mismatch> => {
    try {
      return Exit.succeed(encode(value))
    } catch (error) {
      return Exit.fail(thrown(error))
    }
  }
  const pack = packWith(MessagePack.encode)
  const packShared = packWith(MessagePack.encodeShared)
  return {
    encode: (value) => Effect.flatMapEager(guarded(() => toJson(value)), pack),
    encodeShared: (value) => {
      const plain = guarded(() => toJson(value))
      return Effect.flatMapEager(plain, Exit.isExit(plain) ? packShared : pack)
    },
    decode: (bytes) => {
      let value: unknown
      try {
        value = MessagePack.decode(bytes)
      } catch (error) {
        return Exit.fail(thrown(error))
      }
      return guarded(() => fromJson(value)) as Effect.Effect<S["Type"], Mismatch>
    },
  }
}
