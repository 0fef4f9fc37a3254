/**
 * Encryption of what jobs are given and what they give, with keys that NATS never sees.
 *
 * @example
 * ```ts
 * import { Client, Encryption, Nats } from "@portfire/portfire"
 * import * as Layer from "effect/Layer"
 *
 * const keys = { "2030-01": "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=" }
 *
 * const live = Client.layer.pipe(
 *   Layer.provide(Encryption.layer({ current: "2030-01", keys })),
 *   Layer.provide(Nats.layer()),
 * )
 * ```
 *
 * @module
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { InvalidOptions } from "./errors.ts"
import * as MessagePack from "./MessagePack.ts"
import { checkKeys, checkName } from "./Names.ts"
import * as Sealed from "./Sealed.ts"

/** A key: 32 bytes, or their base64, as they are or wrapped in `Redacted`. */
export type Key = Uint8Array | string | Redacted.Redacted<Uint8Array | string>

/** The keys of a process. */
export interface EncryptionOptions {
  /** Id of the key that new data is encrypted with. */
  readonly current: string
  /** Keys by their ids; those that aren't current are for data that was encrypted before. */
  readonly keys: Readonly<Record<string, Key>>
}

/** What can't be decrypted here. */
export class Locked extends Data.Error<{
  /** Id of the key it was encrypted with. */
  readonly keyId: string
  /** Why. */
  readonly reason: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "Locked"
  /** Name in stack traces. */
  override readonly name = "Locked"
  /** One sentence a person can act on. */
  override get message(): string {
    return this.reason
  }
}

/** What is shown in place of data by a process that can't decrypt it. */
export class Encrypted {
  /** Tells it from data. */
  readonly _tag = "Encrypted"
  /** Id of the key it was encrypted with. */
  readonly keyId: string

  constructor(keyId: string) {
    this.keyId = keyId
  }
}

/** Encrypts and decrypts. */
export interface Keyring {
  /** Whether it has a key. */
  readonly has: (keyId: string) => boolean
  /**
   * Encrypts with the current key. With `stable`, the same bytes give the same ciphertext, for what is
   * compared to see whether it has changed.
   */
  readonly seal: (
    bytes: Uint8Array,
    about: Sealed.About,
    stable?: boolean,
  ) => Effect.Effect<Uint8Array>
  /** Decrypts. */
  readonly open: (part: Sealed.Part) => Effect.Effect<Uint8Array, Locked>
}

/** The keys as a service; without any, nothing is encrypted. */
export const Encryption: Context.Reference<Keyring | undefined> = Context.Reference<
  Keyring | undefined
>("portfire/core/Encryption", { defaultValue: () => undefined })

interface Pair {
  readonly cipher: CryptoKey
  /** For nonces that follow from what is encrypted; never used for anything else. */
  readonly mac: CryptoKey
}

const text = new TextEncoder()
const source = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => bytes as Uint8Array<ArrayBuffer>

const rawOf = (key: unknown): Uint8Array | undefined => {
  if (Redacted.isRedacted(key)) return rawOf(Redacted.value(key))
  if (key instanceof Uint8Array) return key.length === 32 ? key : undefined
  if (typeof key !== "string") return undefined
  try {
    return rawOf(Uint8Array.from(atob(key), (char) => char.charCodeAt(0)))
  } catch {
    return undefined
  }
}

const pairOf = async (raw: Uint8Array): Promise<Pair> => {
  const label = text.encode("portfire nonce\n")
  const seed = new Uint8Array(label.length + raw.length)
  seed.set(label)
  seed.set(raw, label.length)
  const hash = { name: "HMAC", hash: "SHA-256" }
  return {
    cipher: await crypto.subtle.importKey("raw", source(raw), "AES-GCM", false, [
      "encrypt",
      "decrypt",
    ]),
    mac: await crypto.subtle.importKey(
      "raw",
      await crypto.subtle.digest("SHA-256", seed),
      hash,
      false,
      ["sign"],
    ),
  }
}

const nonceFor = async ({ mac }: Pair, data: Uint8Array, bytes: Uint8Array) => {
  const all = new Uint8Array(4 + data.length + bytes.length)
  new DataView(all.buffer).setUint32(0, data.length)
  all.set(data, 4)
  all.set(bytes, 4 + data.length)
  return new Uint8Array(await crypto.subtle.sign("HMAC", mac, all), 0, 12)
}

/** Makes the keyring. Fails with `InvalidOptions` for what is no key; the error doesn't tell it. */
export const make: (
  options: EncryptionOptions,
) => Effect.Effect<Keyring, InvalidOptions> = Effect.fnUntraced(function* (options) {
  const unknown = checkKeys("encryption", options, ["current", "keys"])
  if (unknown !== undefined) return yield* unknown
  const { current, keys } = options
  const pairs = new Map<string, Pair>()
  for (const [id, key] of Object.entries(keys ?? {})) {
    const illegal = checkName("encryption.keys", id)
    if (illegal !== undefined) return yield* illegal
    const raw = rawOf(key)
    if (raw === undefined) {
      return yield* new InvalidOptions({
        field: `encryption.keys.${id}`,
        value: "not shown",
        reason: "a key is 32 bytes, or the base64 of 32 bytes",
      })
    }
    pairs.set(id, yield* Effect.promise(() => pairOf(raw)))
  }
  const pair = pairs.get(current)
  if (pair === undefined) {
    const reason = "it is the id of one of the keys"
    return yield* new InvalidOptions({
      field: "encryption.current",
      value: String(current),
      reason,
    })
  }
  return {
    has: (keyId) => pairs.has(keyId),
    seal: (bytes, about, stable = false) =>
      Effect.promise(async () => {
        const additionalData = source(Sealed.associated({ ...about, keyId: current }))
        const nonce = stable
          ? await nonceFor(pair, additionalData, bytes)
          : crypto.getRandomValues(new Uint8Array(12))
        const algorithm = { name: "AES-GCM", iv: nonce, additionalData }
        const ciphertext = await crypto.subtle.encrypt(algorithm, pair.cipher, source(bytes))
        return Sealed.pack({
          ...about,
          keyId: current,
          nonce,
          ciphertext: new Uint8Array(ciphertext),
        })
      }),
    open: (part) => {
      const { ciphertext, keyId, nonce } = part
      const key = pairs.get(keyId)
      if (key === undefined) return Effect.fail(missing(keyId))
      const algorithm = {
        name: "AES-GCM",
        iv: source(nonce),
        additionalData: source(Sealed.associated(part)),
      }
      return Effect.tryPromise({
        try: async () =>
          new Uint8Array(
            await crypto.subtle.decrypt(algorithm, key.cipher, source(ciphertext)),
          ),
        catch: () =>
          new Locked({
            keyId,
            reason: `it can't be decrypted with the key ${keyId}: it was changed, or that is ` +
              "another key",
          }),
      })
    },
  }
})

const missing = (keyId: string): Locked =>
  new Locked({
    keyId,
    reason: `it is encrypted with the key ${keyId}, which this process doesn't have`,
  })

/**
 * Provides the keys to clients and servers: what they write from then on is encrypted with the current
 * one, what was encrypted with any of them is read, and what isn't encrypted is read as before. Takes
 * the options, or an effect that gets them from where keys are kept, once.
 */
export const layer = <E = never, R = never>(
  options: EncryptionOptions | Effect.Effect<EncryptionOptions, E, R>,
): Layer.Layer<never, InvalidOptions | E, R> =>
  Layer.effect(
    Encryption,
    Effect.flatMap(
      Effect.isEffect(options)
        ? options as Effect.Effect<EncryptionOptions, E, R>
        : Effect.succeed(options as EncryptionOptions),
      make,
    ),
  )

const openOne = (
  keyring: Keyring | undefined,
  part: Sealed.Part,
  fits: (part: Sealed.Part) => boolean,
): Effect.Effect<Uint8Array, Locked> => {
  const { keyId } = part
  if (!fits(part)) {
    const reason = `what was encrypted belongs to another job, as its ${part.kind}`
    return Effect.fail(new Locked({ keyId, reason }))
  }
  return keyring === undefined ? Effect.fail(missing(keyId)) : keyring.open(part)
}

/** The bytes themselves where they aren't encrypted; decrypted where they are, and of that job. */
export const open = (
  keyring: Keyring | undefined,
  bytes: Uint8Array,
  about: Sealed.About,
): Effect.Effect<Uint8Array, Locked> => {
  const part = Sealed.partIn(bytes)
  return part === undefined ? Effect.succeed(bytes) : openOne(
    keyring,
    part,
    ({ id, kind, name }) =>
      kind === about.kind && name === about.name && (id === undefined || id === about.id),
  )
}

/** The same where results of other jobs, or elements of them, are parts of the value. */
export const openParts: (
  keyring: Keyring | undefined,
  bytes: Uint8Array,
) => Effect.Effect<Uint8Array, Locked> = Effect.fnUntraced(function* (keyring, bytes) {
  const parts = Sealed.partsIn(bytes)
  if (parts.length === 0) return bytes
  const values = yield* Effect.forEach(
    parts,
    (part) =>
      Effect.map(
        openOne(keyring, part, ({ kind }) => kind === "result" || kind === "element"),
        MessagePack.decode,
      ),
  )
  let at = 0
  return MessagePack.encode(Sealed.replaced(MessagePack.decode(bytes), () => values[at++]))
})
