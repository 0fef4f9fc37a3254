/** A NATS server on which every role has a user, with the permissions that `Roles` gives it. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { Client, Nats, Roles, StreamSettings } from "../../mod.ts"
import * as Violations from "../../src/nats/Violations.ts"
import { type TestServer, testServer } from "../harness.ts"

/** The namespace of these tests: permissions name it. */
export const namespace = "acme"

/** Inbox prefix of a role's user. */
export const inboxOf = (role: string): string => `_INBOX_${role}`

const user = (role: Roles.Role, partitions: number): string =>
  `{ user: ${role}, password: ${role}-password, permissions: ${
    Roles.render(Roles.permissionsOf(role, { namespace, partitions }))
  } }`

/** A server with a user for each role, and one that may do everything. */
export const roleServer = (partitions = 1): TestServer =>
  testServer({
    config: `jetstream {}, authorization { users: [
      { user: root, password: root-password }
      ${Roles.roles.map((role) => user(role, partitions)).join("\n")}
    ] }`,
  })

/** A connection as the user of a role, or as `root`. */
export const as = (
  server: TestServer,
  role: Roles.Role | "root",
  options: Nats.NatsOptions = {},
): Layer.Layer<Nats.Nats, Nats.ConnectError> =>
  Layer.unwrap(Effect.map(
    Effect.promise(server.url),
    (servers) =>
      Nats.layer({
        servers,
        authentication: { user: role, password: `${role}-password` },
        namespace,
        inboxPrefix: inboxOf(role),
        ...options,
      }),
  ))

/** A connection as the user of a role; it lives as long as the scope. */
export const connect = (
  server: TestServer,
  role: Roles.Role | "root",
): Effect.Effect<Nats.Nats, Nats.ConnectError, Scope.Scope> =>
  Effect.map(Layer.build(as(server, role)), (context) => Context.get(context, Nats.Nats))

/** Makes the streams, as whoever is allowed to. */
export const setUp = (server: TestServer, partitions = 1) =>
  Effect.scoped(Layer.build(Client.layer.pipe(
    Layer.provide(as(server, "setup")),
    Layer.provide(Layer.succeed(StreamSettings, { partitions })),
  )))

/** What is refused to a connection from now on, as `publish <subject>` and `subscription <subject>`. */
export const violationsOf = ({ connection }: Nats.Nats): ReadonlyArray<string> => {
  const seen: Array<string> = []
  Violations.listen(connection, ({ operation, subject }) => seen.push(`${operation} ${subject}`))
  return seen
}
