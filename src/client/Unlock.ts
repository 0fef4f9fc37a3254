/** Decrypts what lies in the messages of jobs, as far as there are keys, and encrypts how they end. */
import * as Effect from "effect/Effect"
import type { Attempt } from "../core/Attempt.ts"
import * as Encryption from "../core/Encryption.ts"
import type { Mismatch } from "../core/Codec.ts"
import type { Envelope, Outcome } from "../core/Envelope.ts"
import * as MessagePack from "../core/MessagePack.ts"
import * as Sealed from "../core/Sealed.ts"
import type { Waits } from "../core/Waits.ts"
import type { JobMessage } from "../nats/Records.ts"
import { fanName } from "./Command.ts"

/** Stands in place of the message of an error that is encrypted. */
export const hidden = "encrypted"

/** Whether what belongs to jobs of that name is encrypted: the engine's own jobs hold none of it. */
export const isSealed = (name: string): boolean => !name.startsWith("_")

/** What tells why an attempt ended. */
export type Why = Pick<Attempt, "message" | "stack" | "error">

/** The same, encrypted. The keys of the result take the place of those of `why`. */
export const sealWhy = (
  keyring: Encryption.Keyring,
  about: { readonly name: string; readonly id: string },
  { error, message, stack }: Why,
): Effect.Effect<Why> =>
  Effect.map(
    keyring.seal(MessagePack.encode([message, stack, error]), { kind: "error", ...about }),
    (error) => ({ message: hidden, stack: undefined, error }),
  )

/** What can be had of it; the rest stays as it is. */
const orSame = <A>(opened: Effect.Effect<A, Encryption.Locked>, same: A): Effect.Effect<A> =>
  Effect.orElseSucceed(opened, () => same)

const textOr = (value: unknown): string | undefined => typeof value === "string" ? value : undefined

const unlockAttempt = (
  keyring: Encryption.Keyring,
  about: { readonly name: string; readonly id: string },
  attempt: Attempt,
): Effect.Effect<Attempt> => {
  if (attempt.error === undefined || Sealed.partIn(attempt.error) === undefined) {
    return Effect.succeed(attempt)
  }
  const opened = Encryption.open(keyring, attempt.error, { kind: "error", ...about })
  const read = Effect.map(opened, (bytes): Attempt => {
    const [message, stack, error] = MessagePack.decode(bytes) as Array<unknown>
    return {
      ...attempt,
      message: textOr(message),
      stack: textOr(stack),
      error: error instanceof Uint8Array ? error : undefined,
    }
  })
  return orSame(read, attempt)
}

/** What a job waits for, with the results of those that have ended. */
export const unlockWaits: (
  keyring: Encryption.Keyring | undefined,
  waits: Waits,
) => Effect.Effect<Waits, Encryption.Locked> = Effect.fnUntraced(function* (keyring, waits) {
  const parents = yield* Effect.forEach(waits.parents, (parent) => {
    const { id, outcome } = parent
    return outcome?.result === undefined ? Effect.succeed(parent) : Effect.map(
      Encryption.openParts(keyring, outcome.result),
      (result) => ({ id, outcome: { ...outcome, result } }),
    )
  })
  return { ...waits, parents }
})

/** A message of a job with all of it decrypted for which there are keys. */
export const unlock: (
  keyring: Encryption.Keyring | undefined,
  message: JobMessage,
) => Effect.Effect<JobMessage> = Effect.fnUntraced(function* (keyring, message) {
  if (keyring === undefined) return message
  const { envelope, subject: { id } } = message
  const { name, outcome, progress } = envelope
  const payload = yield* orSame(
    Encryption.open(keyring, envelope.payload, { kind: "payload", name }),
    envelope.payload,
  )
  const history = yield* Effect.forEach(
    progress.history,
    (attempt) => unlockAttempt(keyring, { name, id }, attempt),
  )
  const waits = progress.waits === undefined
    ? undefined
    : yield* orSame(unlockWaits(keyring, progress.waits), progress.waits)
  let ended: Outcome | undefined = outcome
  if (outcome?.result !== undefined) {
    const opened = isSealed(name)
      ? Encryption.open(keyring, outcome.result, { kind: "result", name, id })
      : Encryption.openParts(keyring, outcome.result)
    ended = { ...outcome, result: yield* orSame(opened, outcome.result) }
  } else if (outcome?.reason === hidden) {
    ended = { ...outcome, reason: history.at(-1)?.message ?? hidden }
  }
  return {
    ...message,
    envelope: { ...envelope, payload, progress: { ...progress, history, waits }, outcome: ended },
  }
})

/** Why a value couldn't be read: because it is encrypted, or as its schema says. */
export const whyNot = (bytes: Uint8Array, mismatch: Mismatch): Mismatch => {
  const [part] = Sealed.partsIn(bytes)
  return part === undefined ? mismatch : {
    path: "",
    reason: `it is encrypted with the key ${part.keyId}, which this process doesn't have, or ` +
      "it was changed or belongs to another job",
  }
}

/** Results of other jobs that a job is given; the engine's own steps but one only pass them on. */
const givenResults = ({ name, progress: { waits } }: Envelope): ReadonlyArray<Uint8Array> =>
  waits === undefined || !isSealed(name) && name !== fanName
    ? []
    : waits.parents.flatMap(({ outcome }) => outcome?.result ?? [])

/** Id of a key without which the job can't be run; `undefined` when none is missing. */
export const missingKey = (
  keyring: Encryption.Keyring | undefined,
  envelope: Envelope,
): string | undefined => {
  const lacks = (part: Sealed.Part | undefined) =>
    part !== undefined && keyring?.has(part.keyId) !== true
  const own = Sealed.partIn(envelope.payload)
  if (lacks(own)) return own?.keyId
  return givenResults(envelope).flatMap(Sealed.partsIn).find(lacks)?.keyId
}

/**
 * The message of a job that is about to run, with what its handler is given decrypted; `undefined`, at
 * once, where none of it is encrypted.
 */
export const unlockInput = (
  keyring: Encryption.Keyring | undefined,
  envelope: Envelope,
): Effect.Effect<Envelope, Encryption.Locked> | undefined => {
  const { name, payload, progress } = envelope
  if (!isSealed(name)) return undefined
  const isPlain = Sealed.partIn(payload) === undefined &&
    givenResults(envelope).every((bytes) => Sealed.partsIn(bytes).length === 0)
  if (isPlain) return undefined
  return Effect.gen(function* () {
    const opened = yield* Encryption.open(keyring, payload, { kind: "payload", name })
    const waits = progress.waits === undefined
      ? undefined
      : yield* unlockWaits(keyring, progress.waits)
    return { ...envelope, payload: opened, progress: { ...progress, waits } }
  })
}
