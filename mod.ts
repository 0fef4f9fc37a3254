/**
 * Durable background jobs: define them, enqueue them, run a server, read what became of them.
 *
 * A job whose enqueue succeeded is on NATS JetStream; it runs at least once, and has one outcome.
 *
 * @module
 */
export * as Batch from "./src/client/Batch.ts"
export * as Client from "./src/client/Client.ts"
export { Bytes } from "./src/core/Codec.ts"
export {
  type Durability,
  type DurabilityGap,
  type DurabilityLevel,
  DurabilityNotMet,
  type DurabilityServer,
  type SyncInterval,
} from "./src/nats/Durability.ts"
export * as Encryption from "./src/core/Encryption.ts"
export * as Errors from "./src/core/errors.ts"
export * as Flow from "./src/client/Flow.ts"
export * as Isolated from "./actors/Isolated.ts"
export * as Job from "./src/client/Job.ts"
export * as JobOutcome from "./src/client/JobOutcome.ts"
export * as JobRecord from "./src/client/JobRecord.ts"
export * as Journal from "./src/client/Journal.ts"
export * as Middleware from "./src/client/Middleware.ts"
export * as Nats from "./src/nats/Nats.ts"
export * as NatsError from "./src/nats/errors.ts"
export * as Operation from "./src/client/Operation.ts"
export * as Recurring from "./src/client/Recurring.ts"
export * as Retry from "./src/core/Retry.ts"
export * as Roles from "./src/nats/Roles.ts"
export * as Server from "./actors/Server.ts"
export { runMain } from "./actors/runMain.ts"
export { StreamSettings } from "./src/nats/Wire.ts"
