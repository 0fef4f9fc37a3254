/**
 * Where the NATS server is and who we are to it: options, environment and defaults brought together
 * in one place. An option that is given wins over the environment, the environment over the default.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { credsAuthenticator, nkeyAuthenticator } from "nats"
import type { Authenticator, TlsOptions } from "nats"
import { readFileSync } from "node:fs"
import process from "node:process"

/** A secret: plain, or wrapped so that logs can't show it. */
export type Secret = string | Redacted.Redacted<string>

/** How this process proves who it is. One of these. */
export type Authentication =
  | { readonly user: string; readonly password: Secret }
  | { readonly token: Secret }
  /** A `.creds` file: its path, or its contents. A path is read again at every reconnect. */
  | { readonly credentials: Secret }
  /** The seed of an nkey (`SU…`). */
  | { readonly nkeySeed: Secret }

/** Encryption. Each of `ca`, `cert` and `key` is a path to a PEM file, or its contents. */
export interface Tls {
  /** Who signed the server's certificate, when the system doesn't know it. */
  readonly ca?: string
  /** This process' own certificate; goes with `key`. */
  readonly cert?: string
  /** The private key of `cert`. */
  readonly key?: Secret
  /** True for a server that is configured with `handshake_first`. */
  readonly handshakeFirst?: boolean
}

/** What `Nats.layer` takes. Everything has a default or can come from the environment. */
export interface NatsOptions {
  /** `host:port` or `nats://host:port` or `tls://host:port`, one or several of one cluster. */
  readonly servers?: string | ReadonlyArray<string>
  /** Who we are; nothing for a server that asks nobody. */
  readonly authentication?: Authentication
  /**
   * `true`: encrypted or not at all, by the system's certificates. `false`: never encrypted. Left
   * out: encrypted where the server offers it.
   */
  readonly tls?: boolean | Tls
  /** Which installation inside the NATS account; `[A-Za-z0-9_-]{1,64}`, default `portfire`. */
  readonly namespace?: string
  /**
   * Begin of the subjects on which this process gets its answers, one or more tokens; default
   * `_INBOX`. One for each user, and the right to subscribe to no other, keeps users of one account
   * from reading each other's answers.
   */
  readonly inboxPrefix?: string
  /** What the server's monitoring calls this connection. */
  readonly name?: string
  /** Wait for a server that isn't there yet, instead of failing. Wrong credentials fail all the same. */
  readonly waitOnFirstConnect?: boolean
}

/** An option or an environment variable has a value that can't be used. Nothing was started. */
export class InvalidNatsOptions extends Data.Error<{
  /** The option or the variable, for example `authentication.credentials` or `NATS_URL`. */
  readonly field: string
  /** What is wrong with it, never with a secret in it. */
  readonly problem: string
}> {
  /** Tag for `Effect.catchTag`. */
  readonly _tag = "InvalidNatsOptions"
  /** Name in stack traces. */
  override readonly name = "InvalidNatsOptions"
  /** False: the value has to be corrected first. */
  readonly retryable = false
  /** One sentence a person can act on. */
  override get message(): string {
    return `NATS option ${this.field}: ${this.problem}`
  }
}

/** Options after checking: what the client library takes, nothing left to decide. */
export interface Resolved {
  readonly servers: Array<string>
  readonly authenticator: Authenticator | undefined
  /** How we prove who we are, in words for an error message. */
  readonly authenticatedBy: string
  readonly tls: TlsOptions | null | undefined
  readonly namespace: string
  /** Undefined for the client library's own, `_INBOX`. */
  readonly inboxPrefix: string | undefined
  readonly name: string
  readonly waitOnFirstConnect: boolean
}

/** What `process.env` is like. */
export type Environment = Readonly<Record<string, string | undefined>>

const defaultServer = "127.0.0.1:4222"
const encoder = new TextEncoder()

const refuse = (field: string, problem: string): never => {
  throw new InvalidNatsOptions({ field, problem })
}

/** The value and name of the first of `PORTFIRE_NATS_<name>` and `NATS_<name>` that is set. */
const variable = (
  environment: Environment,
  name: string,
): { readonly field: string; readonly value: string } | undefined => {
  for (const field of [`PORTFIRE_NATS_${name}`, `NATS_${name}`]) {
    const value = environment[field]
    if (value !== undefined && value !== "") return { field, value }
  }
  return undefined
}

/** Refuses names that are not options: most often a typing error. */
export const refuseUnknown = (
  options: object,
  known: ReadonlyArray<string>,
  prefix = "",
): void => {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    return refuse(prefix === "" ? "options" : prefix.slice(0, -1), "must be an object")
  }
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      refuse(`${prefix}${name}`, `is not an option; there are ${known.join(", ")}`)
    }
  }
}

const text = (field: string, value: unknown): string =>
  typeof value === "string" && value !== "" ? value : refuse(field, "must be a text, not empty")

const secret = (field: string, value: unknown): string =>
  text(field, Redacted.isRedacted(value) ? Redacted.value(value) : value)

const flag = (field: string, value: unknown): boolean =>
  value === undefined ? false : typeof value === "boolean" ? value : refuse(
    field,
    "must be true or false",
  )

/** Options that hold a secret, or the path of one. */
const secretFiles: ReadonlySet<string> = new Set(["authentication.credentials", "tls.key"])

const readText = (field: string, path: string): string => {
  try {
    return readFileSync(path, "utf8")
  } catch (cause) {
    const code = (cause as { readonly code?: string }).code ?? "unknown"
    if (!secretFiles.has(field)) return refuse(field, `the file ${path} can't be read (${code})`)
    // What looks like a path may be the secret itself, without the lines around it.
    return refuse(
      field,
      `is neither the path of a file that can be read (${code}) nor its contents`,
    )
  }
}

/** The namespace by option, environment or default. Throws `InvalidNatsOptions`. */
export const resolveNamespace = (option: unknown, environment: Environment): string => {
  const fromEnvironment = environment.PORTFIRE_NAMESPACE
  const [field, value] = option !== undefined || !fromEnvironment
    ? ["namespace", option ?? "portfire"]
    : ["PORTFIRE_NAMESPACE", fromEnvironment]
  return typeof value === "string" && /^[A-Za-z0-9_-]{1,64}$/.test(value)
    ? value
    : refuse(field, "must be 1 to 64 letters, digits, '_' or '-'")
}

const resolveInboxPrefix = (option: unknown, environment: Environment): string | undefined => {
  const set = variable(environment, "INBOX_PREFIX")
  const value = option ?? set?.value
  if (value === undefined) return undefined
  // Under `$` and `pf` lie the server's subjects and ours.
  return typeof value === "string" && /^(?!pf\.|pf$)[\w-]{1,64}(\.[\w-]{1,64}){0,7}$/.test(value)
    ? value
    : refuse(
      option === undefined ? set?.field ?? "inboxPrefix" : "inboxPrefix",
      "must be 1 to 8 tokens of letters, digits, '_' or '-', the first one not pf, for example " +
        "_INBOX_worker",
    )
}

interface Address {
  readonly server: string
  readonly tls: boolean
  readonly authentication: Authentication | undefined
}

const decoded = (field: string, part: string): string => {
  try {
    return decodeURIComponent(part)
  } catch {
    return refuse(field, "has credentials with a '%' that isn't percent-encoded")
  }
}

/** One server address; credentials that stand in it are taken out, so that nothing prints them. */
const parseServer = (field: string, value: unknown): Address => {
  const given = text(field, value).trim()
  const [, scheme = "", rest = ""] = /^(?:([A-Za-z][A-Za-z0-9+.-]*):\/\/)?(.*)$/s.exec(given) ?? []
  if (!["", "nats", "tls"].includes(scheme.toLowerCase())) {
    return refuse(field, `has the scheme ${scheme}; only nats:// and tls:// are supported`)
  }
  const at = rest.lastIndexOf("@")
  const host = rest.slice(at + 1).replace(/\/$/, "")
  const port = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(\d{1,5}))?$/.exec(host)
  if (port === null || Number(port[1] ?? 1) < 1 || Number(port[1] ?? 1) > 65535) {
    return refuse(field, "must be host, host:port or nats://host:port")
  }
  const [user, ...password] = at < 0 ? [""] : rest.slice(0, at).split(":")
  return {
    server: host,
    tls: scheme.toLowerCase() === "tls",
    authentication: user === undefined || user === ""
      ? undefined
      : password.length === 0
      ? { token: decoded(field, user) }
      : { user: decoded(field, user), password: decoded(field, password.join(":")) },
  }
}

const environmentAuthentication = (environment: Environment): Authentication | undefined => {
  const user = variable(environment, "USER")
  const password = variable(environment, "PASSWORD")
  const token = variable(environment, "TOKEN")
  const creds = variable(environment, "CREDS")
  const nkey = variable(environment, "NKEY")
  if (user !== undefined && password === undefined) {
    return refuse(user.field, "is set without a password beside it")
  }
  if (password !== undefined && user === undefined) {
    return refuse(password.field, "is set without a user beside it")
  }
  const ways = [user, token, creds, nkey].filter((way) => way !== undefined)
  if (ways.length > 1) {
    return refuse(ways.map((way) => way.field).join(", "), "are set together; set one of them")
  }
  if (user !== undefined) return { user: user.value, password: password?.value ?? "" }
  if (token !== undefined) return { token: token.value }
  if (creds !== undefined) return { credentials: creds.value }
  return nkey === undefined ? undefined : { nkeySeed: nkey.value }
}

/** Tries the authenticator once, so that a damaged key is refused here and not inside the client. */
const tried = (field: string, authenticator: Authenticator): Authenticator => {
  try {
    authenticator("nonce")
  } catch {
    return refuse(field, "isn't a valid key or creds file")
  }
  return authenticator
}

const credentialsAuthenticator = (field: string, value: string): Authenticator => {
  if (value.includes("-----BEGIN")) {
    return tried(field, credsAuthenticator(encoder.encode(value)))
  }
  let contents = readText(field, value)
  tried(field, credsAuthenticator(encoder.encode(contents)))
  // An authenticator that throws closes the connection for good: keep what worked the last time.
  return (nonce) => {
    try {
      const renewed = readFileSync(value, "utf8")
      credsAuthenticator(encoder.encode(renewed))(nonce)
      contents = renewed
    } catch {
      // The file is being replaced, or is gone.
    }
    return credsAuthenticator(encoder.encode(contents))(nonce)
  }
}

const resolveAuthentication = (
  given: Authentication | undefined,
): { readonly authenticator: Authenticator | undefined; readonly authenticatedBy: string } => {
  if (given === undefined) return { authenticator: undefined, authenticatedBy: "no credentials" }
  refuseUnknown(
    given,
    ["user", "password", "token", "credentials", "nkeySeed"],
    "authentication.",
  )
  const ways = ["user", "token", "credentials", "nkeySeed"].filter((way) => way in given)
  if (ways.length !== 1) {
    refuse(
      "authentication",
      "must be exactly one of { user, password }, { token }, { credentials } and { nkeySeed }",
    )
  }
  if ("password" in given && !("user" in given)) {
    refuse("authentication.user", "is missing beside the password")
  }
  if ("user" in given) {
    const user = text("authentication.user", given.user)
    const pass = secret("authentication.password", given.password)
    return { authenticator: () => ({ user, pass }), authenticatedBy: `the user ${user}` }
  }
  if ("token" in given) {
    const token = secret("authentication.token", given.token)
    return { authenticator: () => ({ auth_token: token }), authenticatedBy: "a token" }
  }
  if ("credentials" in given) {
    const field = "authentication.credentials"
    return {
      authenticator: credentialsAuthenticator(field, secret(field, given.credentials)),
      authenticatedBy: "a creds file",
    }
  }
  const seed = encoder.encode(secret("authentication.nkeySeed", given.nkeySeed).trim())
  return {
    authenticator: tried("authentication.nkeySeed", nkeyAuthenticator(seed)),
    authenticatedBy: "an nkey",
  }
}

const pem = (field: string, value: string): string =>
  value.includes("-----BEGIN") ? value : readText(field, value)

const environmentTls = (environment: Environment): Tls | undefined => {
  const ca = variable(environment, "TLS_CA")
  const cert = variable(environment, "TLS_CERT")
  const key = variable(environment, "TLS_KEY")
  if (ca === undefined && cert === undefined && key === undefined) return undefined
  return {
    ...(ca === undefined ? {} : { ca: ca.value }),
    ...(cert === undefined ? {} : { cert: cert.value }),
    ...(key === undefined ? {} : { key: key.value }),
  }
}

const resolveTls = (given: boolean | Tls | undefined): TlsOptions | null | undefined => {
  if (given === undefined) return undefined
  if (given === false) return null
  if (given === true) return {}
  refuseUnknown(given, ["ca", "cert", "key", "handshakeFirst"], "tls.")
  if ((given.cert === undefined) !== (given.key === undefined)) {
    refuse(
      given.cert === undefined ? "tls.cert" : "tls.key",
      "is missing: cert and key go together",
    )
  }
  return {
    ...(given.ca === undefined ? {} : { ca: pem("tls.ca", text("tls.ca", given.ca)) }),
    ...(given.cert === undefined ? {} : { cert: pem("tls.cert", text("tls.cert", given.cert)) }),
    ...(given.key === undefined ? {} : { key: pem("tls.key", secret("tls.key", given.key)) }),
    ...(flag("tls.handshakeFirst", given.handshakeFirst) ? { handshakeFirst: true } : {}),
  }
}

const resolveOrThrow = (options: NatsOptions, environment: Environment): Resolved => {
  refuseUnknown(options, [
    "servers",
    "authentication",
    "tls",
    "namespace",
    "inboxPrefix",
    "name",
    "waitOnFirstConnect",
  ])
  const url = variable(environment, "URL")
  const field = options.servers !== undefined ? "servers" : url?.field ?? "servers"
  const given = options.servers ?? url?.value.split(",") ?? defaultServer
  const list: ReadonlyArray<unknown> = Array.isArray(given) ? given : [given]
  if (list.length === 0) refuse(field, "is empty")
  const addresses = list.map((server) => parseServer(field, server))
  const wantsTls = addresses.some((address) => address.tls)
  if (wantsTls && options.tls === false) refuse("tls", `is false, but ${field} says tls://`)
  return {
    servers: addresses.map((address) => address.server),
    ...resolveAuthentication(
      options.authentication ??
        addresses.find((address) => address.authentication !== undefined)?.authentication ??
        environmentAuthentication(environment),
    ),
    tls: resolveTls(options.tls ?? environmentTls(environment) ?? (wantsTls || undefined)),
    namespace: resolveNamespace(options.namespace, environment),
    inboxPrefix: resolveInboxPrefix(options.inboxPrefix, environment),
    name: options.name === undefined ? "portfire" : text("name", options.name),
    waitOnFirstConnect: flag("waitOnFirstConnect", options.waitOnFirstConnect),
  }
}

/** Runs code that refuses by throwing `InvalidNatsOptions`, and fails with it; other throws are defects. */
export const refusing = <A>(resolve: () => A): Effect.Effect<A, InvalidNatsOptions> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(resolve())
    } catch (cause) {
      return cause instanceof InvalidNatsOptions ? Effect.fail(cause) : Effect.die(cause)
    }
  })

/** Checks the options and fills in what is missing, from the environment and the defaults. */
export const resolve = (
  options: NatsOptions = {},
  environment: Environment = process.env,
): Effect.Effect<Resolved, InvalidNatsOptions> =>
  refusing(() => resolveOrThrow(options, environment))
