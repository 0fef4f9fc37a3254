/** An operator, an account and its users, as a server in operator mode knows them. */
import { nkeys } from "nats"
import { Buffer } from "node:buffer"
import type { Roles } from "../../mod.ts"

const encoder = new TextEncoder()

const base64url = (value: string | Uint8Array): string => Buffer.from(value).toString("base64url")

/** A JWT by which `signer` says something of `subject`. */
const sign = (
  signer: nkeys.KeyPair,
  subject: nkeys.KeyPair,
  nats: Readonly<Record<string, unknown>>,
): string => {
  const header = base64url(JSON.stringify({ typ: "JWT", alg: "ed25519-nkey" }))
  const body = base64url(JSON.stringify({
    jti: crypto.randomUUID(),
    iat: Math.floor(Date.now() / 1000),
    iss: signer.getPublicKey(),
    sub: subject.getPublicKey(),
    name: String(nats.type),
    nats: { version: 2, ...nats },
  }))
  const signature = signer.sign(encoder.encode(`${header}.${body}`))
  return `${header}.${body}.${base64url(signature)}`
}

const unlimited = {
  subs: -1,
  data: -1,
  payload: -1,
  imports: -1,
  exports: -1,
  wildcards: true,
  conn: -1,
  leaf: -1,
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

/** What an operator makes. */
export interface Operator {
  /** For the server. */
  readonly config: string
  /** The contents of a `.creds` file for a new user with these permissions. */
  readonly credentials: (permissions: Roles.Permissions) => string
}

/** Makes an operator with one account that has JetStream. */
export const makeOperator = (): Operator => {
  const operator = nkeys.createOperator()
  const system = nkeys.createAccount()
  const account = nkeys.createAccount()
  const accountJwt = (key: nkeys.KeyPair, limits: object) =>
    sign(operator, key, { type: "account", limits: { ...unlimited, ...limits } })
  const streams = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 }
  return {
    config: `jetstream {}
      operator: ${sign(operator, operator, { type: "operator" })}
      system_account: ${system.getPublicKey()}
      resolver: MEMORY
      resolver_preload {
        ${system.getPublicKey()}: ${accountJwt(system, {})}
        ${account.getPublicKey()}: ${accountJwt(account, streams)}
      }`,
    credentials: ({ answers, publish, subscribe }) => {
      const user = nkeys.createUser()
      const jwt = sign(account, user, {
        type: "user",
        subs: -1,
        data: -1,
        payload: -1,
        pub: { allow: publish },
        sub: { allow: subscribe },
        ...(answers ? { resp: { max: 1, ttl: 60_000_000_000 } } : {}),
      })
      return [
        "-----BEGIN NATS USER JWT-----",
        jwt,
        "------END NATS USER JWT------",
        "",
        "-----BEGIN USER NKEY SEED-----",
        text(user.getSeed()),
        "------END USER NKEY SEED------",
        "",
      ].join("\n")
    },
  }
}
