/**
 * What a workflow is before it is stored: a tree of steps. Pure; `FlowCompiler.ts` makes jobs of it.
 */
import * as Effect from "effect/Effect"
import type { Codec, Mismatch } from "../core/Codec.ts"
import * as MessagePack from "../core/MessagePack.ts"
import type { Definition } from "./Definition.ts"

/** A workflow, or a part of one; each has one result. */
export type Plan = Step | All | Share | Shared | OrElse

/** A job: one that is given its payload, or that takes a result, once or for each element of it. */
export type Step = Root | Then | Each

/** A job that is given its payload. */
export interface Root {
  readonly _tag: "Root"
  readonly definition: Definition
  readonly payload: unknown
  readonly options: unknown
}

/** A job that takes the result of what is before it. */
export interface Then {
  readonly _tag: "Then"
  readonly self: Plan
  readonly definition: Definition
  readonly options: unknown
}

/** One job for each element of the list that is before it; its result is the list of theirs. */
export interface Each {
  readonly _tag: "Each"
  readonly self: Plan
  readonly definition: Definition
  readonly options: unknown
}

/** Parts side by side; its result has theirs in the same places. */
export interface All {
  readonly _tag: "All"
  readonly parts: ReadonlyArray<Plan> | Readonly<Record<string, Plan>>
}

/** A part that runs once and that `body` uses in several places. */
export interface Share {
  readonly _tag: "Share"
  readonly self: Plan
  readonly use: Shared
  readonly body: Plan
}

/** A place where a shared part is used. */
export interface Shared {
  readonly _tag: "Shared"
  readonly of: Plan
}

/** A part, and what runs in its place when it has not succeeded. */
export interface OrElse {
  readonly _tag: "OrElse"
  readonly self: Plan
  readonly that: Plan
}

/** Where results belong in a value that is made of them: each by its number. */
export type Layout = number | ReadonlyArray<Layout> | { readonly [key: string]: Layout }

/** Puts values in their places. */
export const arrange = (layout: Layout, values: ReadonlyArray<unknown>): unknown => {
  if (typeof layout === "number") return values[layout]
  if (Array.isArray(layout)) return layout.map((part) => arrange(part, values))
  return Object.fromEntries(
    Object.entries(layout).map(([key, part]) => [key, arrange(part, values)]),
  )
}

const mismatch = (reason: string): Mismatch => ({ path: "", reason })

const parsed = (bytes: Uint8Array): Effect.Effect<unknown, Mismatch> =>
  Effect.try({
    try: () => MessagePack.decode(bytes),
    catch: (error) => mismatch(error instanceof Error ? error.message : String(error)),
  })

/** Reads a value whose parts have codecs of their own. */
const part = (
  { decode }: Pick<Codec<unknown>, "decode">,
  value: unknown,
  path: string,
): Effect.Effect<unknown, Mismatch> =>
  Effect.mapError(
    Effect.suspend(() => decode(MessagePack.encode(value))),
    (inner) => ({ path: path + inner.path, reason: inner.reason }),
  )

/** Reads the result of a workflow. */
export const success = (plan: Plan): Pick<Codec<unknown>, "decode"> => {
  switch (plan._tag) {
    case "Root":
    case "Then":
      return plan.definition.success
    case "Shared":
      return success(plan.of)
    case "Share":
      return success(plan.body)
    case "OrElse": {
      const [self, that] = [success(plan.self), success(plan.that)]
      return { decode: (bytes) => Effect.catch(self.decode(bytes), () => that.decode(bytes)) }
    }
    case "Each":
      return {
        decode: (bytes) =>
          Effect.flatMap(
            parsed(bytes),
            (list) =>
              Array.isArray(list)
                ? Effect.forEach(list, (value, i) => part(plan.definition.success, value, `[${i}]`))
                : Effect.fail(mismatch("it is no list")),
          ),
      }
    case "All": {
      const { parts } = plan
      if (Array.isArray(parts)) {
        const codecs = parts.map(success)
        return {
          decode: (bytes) =>
            Effect.flatMap(
              parsed(bytes),
              (list) =>
                Array.isArray(list) && list.length === codecs.length
                  ? Effect.forEach(codecs, (codec, i) => part(codec, list[i], `[${i}]`))
                  : Effect.fail(mismatch(`it is no list of ${codecs.length}`)),
            ),
        }
      }
      const codecs = Object.entries(parts).map(([key, plan]) => [key, success(plan)] as const)
      return {
        decode: (bytes) =>
          Effect.flatMap(
            parsed(bytes),
            (map) =>
              typeof map === "object" && map !== null
                ? Effect.map(
                  Effect.forEach(codecs, ([key, codec]) =>
                    Effect.map(
                      part(codec, (map as Record<string, unknown>)[key], `.${key}`),
                      (value) => [key, value] as const,
                    )),
                  (entries) => Object.fromEntries(entries),
                )
                : Effect.fail(mismatch("it is no record")),
          ),
      }
    }
  }
}

/** The definitions of all its jobs, by name. */
export const definitions = (
  plan: Plan,
  found: Map<string, Definition> = new Map(),
): ReadonlyMap<string, Definition> => {
  switch (plan._tag) {
    case "Root":
      return found.set(plan.definition.name, plan.definition)
    case "Then":
    case "Each":
      definitions(plan.self, found)
      return found.set(plan.definition.name, plan.definition)
    case "All":
      for (const inner of Object.values(plan.parts)) definitions(inner, found)
      return found
    case "Share":
      definitions(plan.self, found)
      return definitions(plan.body, found)
    case "Shared":
      return found
    case "OrElse":
      definitions(plan.self, found)
      return definitions(plan.that, found)
  }
}
