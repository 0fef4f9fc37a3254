/** Definitions for code with promises. */
import * as Effect from "effect/Effect"
import * as EffectJob from "../../src/client/Job.ts"
import type { UniqueJobs } from "../../src/client/Identity.ts"
import type { Migrations } from "../../src/client/Versions.ts"
import * as Codec from "../../src/core/Codec.ts"
import { InvalidOptions } from "../../src/core/errors.ts"
import { show } from "../../src/core/Names.ts"
import type * as Retry from "../../src/core/Retry.ts"
import * as codecs from "./codecs.ts"
import type { IsolatedOptions } from "../isolated/Options.ts"
import type { Definition } from "./Definition.ts"
import { type Handler, type HandlerContext, handlerOf } from "./Handler.ts"
import { type IsolatedHandler, isolatedOf } from "./Isolated.ts"
import type { InputOf, OutputOf, StandardSchema } from "./StandardSchema.ts"

/** The one type of a value that is the same on both sides of its schema; else unknown. */
export type Common<In, Out> = [In] extends [Out] ? [Out] extends [In] ? In : unknown : unknown

/**
 * A job definition: data, which clients enqueue with and servers find handlers by.
 *
 * `Input` is what it is enqueued with and `Payload` what its handler gets, `Output` what its handler
 * returns and `Result` what who waits for it gets. `E` are the typed errors of an Effect definition.
 */
export interface Job<
  Name extends string = string,
  Input = unknown,
  Payload = unknown,
  Output = unknown,
  Result = unknown,
  E = unknown,
> extends Definition<Input, Payload, Output, Result, E> {
  /** Name, the same on every server and client. */
  readonly name: Name
  /**
   * The same definition for Effect code. Where a schema makes another value of what it is given, the
   * types there are `unknown`: Effect's definitions have one type for both.
   */
  readonly effect: EffectJob.Job<Name, Common<Input, Payload>, Common<Output, Result>, E>
  /**
   * Binds a handler, for a server to run. What it throws ends the attempt, which is tried again as the
   * retry policy says. It may run more than once for a job, so it should be idempotent.
   *
   * Throws `InvalidOptions` for a definition with `isolation`, which `isolated` binds.
   */
  readonly handler: (
    run: (payload: Payload, context: HandlerContext) => Output | PromiseLike<Output>,
  ) => Handler<Name>
  /**
   * Binds the handler that a module gives to `serveIsolated`, for a server to run in threads or
   * processes of their own, as the definition's `isolation` says, or in threads where it says nothing.
   * A server that can't start its module rejects with `IsolatedFailed`.
   */
  readonly isolated: (module: URL | string, options?: IsolatedOptions) => IsolatedHandler<Name>
}

/** Options of a definition. */
export interface JobOptions<
  P extends StandardSchema | undefined,
  A extends StandardSchema | undefined,
> extends
  Omit<
    EffectJob.Options<Codec.AnySchema, Codec.AnySchema, Codec.AnySchema>,
    "payload" | "success" | "error" | "retry" | "unique" | "migrations"
  > {
  /** Schema of what the job is given, of any library that has Standard Schema; default nothing. */
  readonly payload?: P
  /** Schema of the handler's result; default nothing. */
  readonly success?: A
  /**
   * What happens after a failed attempt; default 10 attempts over about four and a half hours. Its
   * `decide` is given whatever the handler threw.
   */
  readonly retry?: Retry.Policy | undefined
  /** Makes its jobs unique: while one of them holds a key, no other with this key is stored. */
  readonly unique?: UniqueJobs<InputOf<P>> | undefined
  /**
   * How a payload of an older version, in plain form, becomes one of the next: a function, or an async
   * one, for each version it starts from. Below the lowest one no payload can be read.
   */
  readonly migrations?: { readonly [from: number]: (payload: unknown) => unknown } | undefined
}

const schemaOf = <A>(field: string, schema: unknown): Codec.Codec<A | void> => {
  if (schema === undefined) return codecs.nothing
  const standard = (schema as Partial<StandardSchema<unknown, A>> | null)?.["~standard"]
  if (standard?.version === 1 && typeof standard.validate === "function") {
    return codecs.standard(schema as StandardSchema<unknown, A>)
  }
  const reason = "a Standard Schema is expected, of version 1; " +
    "Schema.toStandardSchemaV1 makes one of an Effect schema"
  throw new InvalidOptions({ field, value: show(schema), reason })
}

/** A promise that a migration gives is an Effect to the engine. */
const awaited = (migration: unknown): unknown =>
  typeof migration !== "function" ? migration : (payload: unknown): unknown => {
    const migrated: unknown = migration(payload)
    return migrated instanceof Promise
      ? Effect.tryPromise({ try: () => migrated, catch: (error) => error })
      : migrated
  }

const migrationsOf = (migrations: object): Migrations =>
  Object.fromEntries(
    Object.entries(migrations).map(([from, migration]) => [from, awaited(migration)]),
  ) as Migrations

/**
 * Makes a definition.
 *
 * Throws `InvalidOptions`, which names the field, for an illegal name, queue or option: a mistake in
 * the program itself, found when it starts.
 *
 * A payload is validated when the job is enqueued, kept as it was given, and validated again by the
 * server: what the schema makes of it is what the handler gets. With results it is the same: kept is
 * what the handler returns, and who reads it gets what the schema makes of it.
 */
export const job = <
  const Name extends string,
  P extends StandardSchema | undefined = undefined,
  A extends StandardSchema | undefined = undefined,
>(
  name: Name,
  options: JobOptions<P, A> = {},
): Job<Name, InputOf<P>, OutputOf<P>, InputOf<A>, OutputOf<A>, never> => {
  const { migrations, payload, success, ...rest } = options
  if ("error" in rest) {
    const reason = "what handlers throw is not described by a schema here"
    throw new InvalidOptions({ field: "error", value: show(rest.error), reason })
  }
  type In = Common<InputOf<P>, OutputOf<P>>
  type Out = Common<InputOf<A>, OutputOf<A>>
  const made = EffectJob.make(name, {
    ...rest as Omit<
      EffectJob.Options<Codec.AnySchema, Codec.AnySchema, Codec.AnySchema>,
      "payload" | "success" | "error" | "unique"
    >,
    payload: Codec.schemaOf(schemaOf<In>("payload", payload) as Codec.Codec<In>),
    success: Codec.schemaOf(schemaOf<Out>("success", success) as Codec.Codec<Out>),
    error: Codec.schemaOf(codecs.thrownError),
    migrations: migrations === undefined ? undefined : migrationsOf(migrations),
  })
  return wrap(made)
}

const wrap = <Name extends string, I, P, O, A, E>(
  effect: EffectJob.Job<Name, Common<I, P>, Common<O, A>, E>,
): Job<Name, I, P, O, A, E> => ({
  name: effect.name,
  definition: effect.definition,
  "~types": undefined,
  effect,
  handler: (run) => handlerOf(effect as unknown as EffectJob.Job<Name, P, O, E>, run),
  isolated: (module, options = {}) => isolatedOf<Name>(effect.definition, module, options),
})

/**
 * A definition of Effect code for code with promises. Its jobs are the same jobs. A handler that
 * throws what the definition's `error` schema knows fails with it; anything else it throws is a crash.
 */
export const fromEffect = <Name extends string, P, A, E>(
  job: EffectJob.Job<Name, P, A, E>,
): Job<Name, P, P, A, A, E> =>
  wrap<Name, P, P, A, A, E>(job as unknown as EffectJob.Job<Name, Common<P, P>, Common<A, A>, E>)
