/**
 * Payloads of several versions: a definition says which one it is at and how to come from an older one
 * to the next, so that jobs that wait survive a deployment that changes their form.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Codec, Mismatch } from "../core/Codec.ts"
import { InvalidOptions } from "../core/errors.ts"
import * as MessagePack from "../core/MessagePack.ts"
import { show } from "../core/Names.ts"

/**
 * From the plain form of a payload, as `Client.get` shows it, to that of the next version. It gives
 * the new form or an Effect of it, which needs no services. What it throws, or fails with, fails the
 * job. It must not change what it is given, nor anything outside.
 */
export type Migration = (payload: unknown) => unknown

/** A migration for each version that it starts from. */
export type Migrations = { readonly [from: number]: Migration }

/** Versions whose values are checked. */
export interface Versions {
  /** What new jobs get. */
  readonly current: number
  /** The oldest that can still be read. */
  readonly oldest: number
  readonly migrations: Migrations
}

/** Reads and writes payloads. */
export interface PayloadCodec<A> extends Codec<A> {
  /** From bytes of a version; of the current one when none is given. */
  readonly decode: (bytes: Uint8Array, version?: number) => Effect.Effect<A, Mismatch>
}

const isVersion = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) >= 1

/** Checks the options of a definition: there is a migration for every step from the first one on. */
export const check = (
  current: number = 1,
  migrations: Migrations = {},
): Versions | InvalidOptions => {
  if (!isVersion(current)) {
    const reason = "a version is a whole number from 1"
    return new InvalidOptions({ field: "version", value: show(current), reason })
  }
  if (typeof migrations !== "object" || migrations === null) {
    const reason = "an object is expected, with a function for each version that it starts from"
    return new InvalidOptions({ field: "migrations", value: show(migrations), reason })
  }
  for (const [key, migration] of Object.entries(migrations)) {
    const field = `migrations.${key}`
    if (!isVersion(Number(key)) || String(Number(key)) !== key || Number(key) >= current) {
      const reason = `it starts from none of the versions before ${current}, the current one`
      return new InvalidOptions({ field, value: show(migration), reason })
    }
    if (typeof migration !== "function") {
      const reason = "it is a function from one version's plain payload to the next one's"
      return new InvalidOptions({ field, value: show(migration), reason })
    }
  }
  const oldest = Math.min(current, ...Object.keys(migrations).map(Number))
  for (let from = oldest; from < current; from++) {
    if (migrations[from] !== undefined) continue
    const reason = `the step from version ${from} to ${from + 1} is missing, though there is one ` +
      `from ${oldest}`
    return new InvalidOptions({ field: `migrations.${from}`, value: "undefined", reason })
  }
  return { current, oldest, migrations }
}

const mismatch = (reason: string): Effect.Effect<never, Mismatch> => Exit.fail({ path: "", reason })

/** Why a migration gave nothing, in the words of what it threw or failed with. */
const whyOf = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  return error instanceof Error ? error.message : show(error)
}

/** The bytes of the current version's payload, from those of an older one. */
const migrate = Effect.fnUntraced(function* (
  { current, migrations }: Versions,
  bytes: Uint8Array,
  version: number,
): Effect.fn.Return<Uint8Array, Mismatch> {
  let step = "reading it"
  const work = Effect.gen(function* () {
    let value = MessagePack.decode(bytes)
    for (let from = version; from < current; from++) {
      step = `its migration from version ${from} to ${from + 1}`
      const next = (migrations[from] as Migration)(value)
      value = Effect.isEffect(next) ? yield* next as Effect.Effect<unknown, unknown> : next
    }
    step = `what it was migrated to, from version ${version} to ${current},`
    return MessagePack.encode(value)
  })
  return yield* Effect.catchCause(
    work,
    (cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause as Cause.Cause<never>)
        : mismatch(`${step} failed: ${whyOf(cause)}`),
  )
})

/** A codec that also reads the older versions of its payloads. */
export const codec = <A>(plain: Codec<A>, versions: Versions): PayloadCodec<A> => {
  const { current, oldest } = versions
  if (current === 1) {
    return {
      ...plain,
      decode: (bytes, version = 1) =>
        version === 1 ? plain.decode(bytes) : mismatch(tooNew(version, current)),
    }
  }
  const named = (how: string) => ({ path, reason }: Mismatch): Mismatch => ({
    path,
    reason: `${reason} (${how})`,
  })
  const isCurrent = named(`it is of version ${current}`)
  return {
    ...plain,
    decode: (bytes, version = current) => {
      if (version === current) return Effect.mapErrorEager(plain.decode(bytes), isCurrent)
      if (version > current) return mismatch(tooNew(version, current))
      if (version < oldest) {
        return mismatch(`it is of version ${version}, the oldest still understood is ${oldest}`)
      }
      return Effect.flatMap(
        migrate(versions, bytes, version),
        (migrated) =>
          Effect.mapError(
            plain.decode(migrated),
            named(`it is of version ${version}, migrated to ${current}`),
          ),
      )
    },
  }
}

const tooNew = (version: number, current: number): string =>
  `it is of version ${version}, this definition knows only those up to ${current}`
