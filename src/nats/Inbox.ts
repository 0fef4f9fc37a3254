/**
 * Where answers to this connection go. Users of one account hear each other's answers unless each has
 * a prefix of its own, and no right to subscribe to any other.
 */
import { createInbox, type NatsConnection } from "nats"

const prefixes = new WeakMap<NatsConnection, string>()

/** Says under which prefix a connection's answers come. */
export const setPrefix = (connection: NatsConnection, prefix: string): void => {
  prefixes.set(connection, prefix)
}

/** A new subject for answers to a connection. */
export const make = (connection: NatsConnection): string => createInbox(prefixes.get(connection))
