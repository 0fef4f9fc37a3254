/** Keeps the entries of a program as it declares them. */
import * as Effect from "effect/Effect"
import { InvalidOptions } from "../core/errors.ts"
import { checkKeys, checkName, show } from "../core/Names.ts"
import type { Declare, Declared, Upserted } from "./EntryDeclare.ts"
import type { RecurringPage } from "./EntryList.ts"
import type { EnqueueError } from "./Writer.ts"

/** An entry as a program declares it; a value, of which nothing comes by itself. */
export interface Declaration {
  /** Id of the entry. */
  readonly id: string
  /** What the engine takes. */
  readonly declared: Declared
}

/** How declarations are synced. */
export interface SyncOptions {
  /** Name of the set that they make up; default `default`. */
  readonly set?: string | undefined
  /** Removes entries of the set that aren't among the declarations; default `false`. */
  readonly removeOthers?: boolean | undefined
}

/** Ids of entries, by what a sync did with them. */
export interface Synced {
  /** They are new. */
  readonly created: ReadonlyArray<string>
  /** They were declared otherwise, or were disabled. */
  readonly changed: ReadonlyArray<string>
  /** They were as they are declared. */
  readonly unchanged: ReadonlyArray<string>
  /** They belonged to the set and aren't declared any more. */
  readonly removed: ReadonlyArray<string>
}

/** Entries that are looked after at once. */
const concurrency = 16

const idsOf = (
  declarations: ReadonlyArray<Declaration>,
): ReadonlySet<string> | InvalidOptions => {
  const refuse = (field: string, value: unknown, reason: string) =>
    new InvalidOptions({ field, value: show(value), reason })
  if (!Array.isArray(declarations)) {
    return refuse("declarations", declarations, "a list of declarations is expected")
  }
  const ids = new Set<string>()
  for (const [index, declaration] of declarations.entries()) {
    const { declared, id } = (declaration ?? {}) as Partial<Declaration>
    if (typeof id !== "string" || typeof declared !== "object") {
      const reason = "it is no declaration; Recurring.define makes one"
      return refuse(`declarations[${index}]`, declaration, reason)
    }
    if (ids.has(id)) {
      return refuse(
        `declarations[${index}].id`,
        id,
        "it is declared twice; every entry has its own",
      )
    }
    ids.add(id)
  }
  return ids
}

/** Makes it for a namespace; `removeFrom` removes an entry if it belongs to a set. */
export const make = (
  { check, store }: Declare,
  list: (
    options: { readonly set: string; readonly limit: number; readonly cursor?: string | undefined },
  ) => Effect.Effect<RecurringPage, EnqueueError>,
  removeFrom: (set: string, id: string) => Effect.Effect<boolean, EnqueueError>,
): (
  declarations: ReadonlyArray<Declaration>,
  options?: SyncOptions,
) => Effect.Effect<Synced, EnqueueError> =>
  Effect.fnUntraced(function* (declarations, options = {}) {
    const unknown = checkKeys("options", options, ["set", "removeOthers"])
    if (unknown !== undefined) return yield* unknown
    const { removeOthers = false, set = "default" } = options
    const badSet = checkName("set", set)
    if (badSet !== undefined) return yield* badSet
    if (typeof removeOthers !== "boolean") {
      const reason = "it is true or false"
      return yield* new InvalidOptions({ field: "removeOthers", value: show(removeOthers), reason })
    }
    const ids = idsOf(declarations)
    if (ids instanceof InvalidOptions) return yield* ids
    const checked = yield* Effect.forEach(
      declarations,
      ({ declared, id }) => check(id, declared, set, `declarations[${show(id)}].`),
      { concurrency },
    )
    // What was declared well yesterday mustn't keep a server from starting today.
    const upserted: ReadonlyArray<Upserted> = yield* Effect.forEach(
      checked,
      (one) => store(one, false),
      { concurrency },
    )
    const others: Array<string> = []
    let cursor: string | undefined
    while (removeOthers) {
      const page = yield* list({ set, limit: 1_000, cursor })
      others.push(...page.entries.map(({ id }) => id).filter((id) => !ids.has(id)))
      cursor = page.cursor
      if (cursor === undefined) break
    }
    const removed = yield* Effect.forEach(
      others,
      (id) => Effect.map(removeFrom(set, id), (was) => was ? [id] : []),
      { concurrency },
    )
    const withChange = (change: Upserted["change"]) =>
      upserted.filter((one) => one.change === change).map(({ entry }) => entry.id)
    return {
      created: withChange("created"),
      changed: withChange("changed"),
      unchanged: withChange("unchanged"),
      removed: removed.flat(),
    }
  })
