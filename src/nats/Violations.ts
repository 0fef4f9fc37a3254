/**
 * What the server doesn't let this connection's user do. It tells so aside from any answer, and what
 * was to be answered never is: without a look at this channel a missing permission is a time-out.
 */
import { type NatsConnection, PermissionViolationError } from "nats"
import { Code, Rejected } from "./errors.ts"

/** Something that the server refused for want of a permission. */
export type Violation = Pick<PermissionViolationError, "operation" | "subject">

/** The violation that a failed call of the client library was refused for. */
export const violationIn = (cause: unknown): Violation | undefined =>
  cause instanceof PermissionViolationError
    ? cause
    : cause instanceof Error && cause.cause instanceof PermissionViolationError
    ? cause.cause
    : undefined

/** What to do about a violation, in words. */
export const describe = ({ operation, subject }: Violation): string =>
  `this connection's user may not ${operation === "publish" ? "publish" : "subscribe"} to ` +
  `"${subject}"; add that to its permissions, or use a user whose role has it (docs/security.md)`

/** The error for a call that was refused for want of a permission. */
export const refusal = (operation: string, violation: Violation): Rejected =>
  new Rejected({
    operation,
    code: Code.notPermitted,
    status: 403,
    description: describe(violation),
  })

type Listener = (violation: Violation) => void

/** One reader of each connection's status, however many listen. */
const listeners = new WeakMap<NatsConnection, Set<Listener>>()

const follow = async (connection: NatsConnection, told: ReadonlySet<Listener>): Promise<void> => {
  for await (const event of connection.status()) {
    if (event.type !== "error" || !(event.error instanceof PermissionViolationError)) continue
    for (const listener of [...told]) listener(event.error)
  }
}

/** Calls back for each violation from now on; returns the unsubscribe. */
export const listen = (connection: NatsConnection, listener: Listener): () => void => {
  let told = listeners.get(connection)
  if (told === undefined) {
    told = new Set()
    listeners.set(connection, told)
    void follow(connection, told)
  }
  const all = told
  // An entry of its own, should the same function listen twice.
  const entry: Listener = (violation) => listener(violation)
  all.add(entry)
  return () => {
    all.delete(entry)
  }
}
