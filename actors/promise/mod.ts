/**
 * Durable background jobs for code with promises: the same engine, words, options and errors as the
 * Effect API, with async functions as handlers and schemas of any library that has Standard Schema.
 *
 * Jobs are the same jobs: programs of both styles can share a namespace, and a program can have both.
 *
 * @example
 * ```ts
 * import { connect, job, Retry } from "@portfire/portfire/promise"
 *
 * const Ping = job("ping", { retry: Retry.fixed({ attempts: 3, delay: "10 seconds" }) })
 *
 * const portfire = await connect({ servers: "nats.example.org" })
 * const id = await portfire.enqueue(Ping)
 * const { state } = await portfire.get(id)
 * await portfire.close()
 * ```
 *
 * @module
 */
export * as Retry from "../../src/core/Retry.ts"
export * as Flow from "./Flow.ts"
export * as Recurring from "./Recurring.ts"
export * as Operation from "../../src/client/Operation.ts"
export { parentResult, parentResults } from "../../src/client/Prepare.ts"
export { fromEffect, job } from "./Job.ts"
export { serveIsolated } from "./Isolated.ts"
export { connect } from "./connect.ts"
export { middleware, veto } from "./Middleware.ts"

export type { Common, Job, JobOptions } from "./Job.ts"
export type { BatchBuilder, Batches } from "./Batches.ts"
export type { Definition, Inherited, PayloadAnd, Types } from "./Definition.ts"
export type { IsolatedContext, IsolatedHandler } from "./Isolated.ts"
export type { IsolatedOptions } from "../isolated/Options.ts"
export type { Handler, HandlerContext, LineOptions } from "./Handler.ts"
export type {
  AfterOptions,
  AwaitOptions,
  Client,
  EnqueueOptions,
  ScheduleOptions,
  SubmitOptions,
} from "./Client.ts"
export type { CommonOptions, ConnectOptions, Portfire } from "./connect.ts"
export type { ServeOptions, Server } from "./Server.ts"
export type { Hooks } from "./Middleware.ts"
export type { CallOptions } from "./run.ts"
export type {
  InputOf,
  OutputOf,
  StandardIssue,
  StandardResult,
  StandardSchema,
} from "./StandardSchema.ts"

export type { AttemptRecord, JobRecord, RunningAttempt } from "../../src/client/JobRecord.ts"
export { Encrypted, type EncryptionOptions, type Key } from "../../src/core/Encryption.ts"
export type { Event } from "../Event.ts"
export type { Health, HealthCode, HealthReason } from "../Health.ts"
export type {
  Durability,
  DurabilityGap,
  DurabilityLevel,
  DurabilityServer,
  SyncInterval,
} from "../../src/nats/Durability.ts"

export { IsolatedFailed } from "../isolated/Binding.ts"
export { ClientClosed } from "./run.ts"
export {
  DuplicateJob,
  InvalidOptions,
  InvalidPayload,
  PayloadTooLarge,
} from "../../src/core/errors.ts"
export { BatchClosed } from "../../src/client/BatchBuilder.ts"
export { JobExists } from "../../src/client/Existing.ts"
export { PartlyEnqueued } from "../../src/client/EnqueueMany.ts"
export { AwaitTimedOut, JobCancelled, JobFailed } from "../../src/client/JobOutcome.ts"
export { RecurringNotFound } from "../../src/client/RecurringRecord.ts"
export { JobNotFound, UnreadableRecord } from "../../src/client/JobRecord.ts"
export { EnqueueVetoed, MiddlewareFailed } from "../../src/client/MiddlewareErrors.ts"
export { Rejected, Unavailable, UnsupportedServer } from "../../src/nats/errors.ts"
export { AuthenticationFailed } from "../../src/nats/Nats.ts"
export { InvalidNatsOptions } from "../../src/nats/NatsOptions.ts"
export { EmbeddedServerFailed } from "../../src/nats/EmbeddedServer.ts"
export { ServerBinaryNotFound } from "../../src/nats/ServerBinary.ts"
export { DurabilityNotMet } from "../../src/nats/Durability.ts"
export { TopologyConflict } from "../../src/nats/Topology.ts"
export { IntensityExceeded, StartFailed } from "../kit/errors.ts"
