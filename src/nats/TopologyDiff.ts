/** What differs between the planned topology and the one on the server. Pure. */
import {
  type Config,
  isLayout,
  type Outcome,
  type Resource,
  type Rule,
  rules,
} from "./TopologyPlan.ts"

/** What exists on the server, by {@link keyOf}. */
export type Actual = ReadonlyMap<string, Config>

/** Key of a resource in {@link Actual}, and its name in messages. */
export const keyOf = (resource: Resource): string =>
  resource.kind === "stream"
    ? `stream ${resource.name}`
    : `consumer ${resource.name} of ${resource.stream}`

/** A stream or consumer that doesn't exist yet. */
export interface Creation {
  /** Discriminator. */
  readonly kind: "create"
  /** What is to be made. */
  readonly resource: Resource
}

/** A field whose value is another than the wanted one. */
export interface FieldChange {
  /**
   * `update`: set by every apply. `conflict`: refused, set by force if `forceable`. `kept`: left as
   * it is, set by force if `forceable`.
   */
  readonly kind: "update" | "conflict" | "kept"
  /** Where. */
  readonly resource: Resource
  /** The field; `metadata.<key>` for one key of the metadata. */
  readonly field: string
  /** What the engine wants; undefined for a field that must not be there. */
  readonly wanted: unknown
  /** What the server has. */
  readonly actual: unknown
  /** What the field is needed for. */
  readonly why: string
  /** Whether `force` sets it. */
  readonly forceable: boolean
}

/** One difference. */
export type Change = Creation | FieldChange

/** Everything that differs; empty when there is nothing to do. */
export interface Diff {
  /** The differences, in the order in which they are applied. */
  readonly changes: ReadonlyArray<Change>
  /** What they were found against. */
  readonly actual: Actual
}

const metadataPrefix = "metadata."

/** The value of a field, where `metadata.<key>` means one key of the metadata. */
const fieldOf = (config: Config, field: string): unknown =>
  field.startsWith(metadataPrefix)
    ? (config.metadata as Config | undefined)?.[field.slice(metadataPrefix.length)]
    : config[field]

/** The configuration with one field set, or taken away where the value is undefined. */
export const withField = (config: Config, field: string, value: unknown): Config =>
  field.startsWith(metadataPrefix)
    ? {
      ...config,
      metadata: {
        ...config.metadata as Config | undefined,
        [field.slice(metadataPrefix.length)]: value,
      },
    }
    : { ...config, [field]: value }

/** The server leaves out what is zero, so all zero values mean the same. */
const isZero = (value: unknown): boolean =>
  value === undefined || value === null || value === false || value === 0 || value === ""

const text = (value: unknown): string =>
  JSON.stringify(Array.isArray(value) ? [...value].sort() : value)

const isSame = (wanted: unknown, actual: unknown): boolean =>
  (isZero(wanted) && isZero(actual)) || text(wanted) === text(actual)

const outcomeOf = (rule: Rule, wanted: unknown, actual: unknown): Outcome => {
  if (isZero(actual) && rule.absent !== undefined) return rule.absent
  const lower = Number(actual ?? 0) < Number(wanted ?? 0)
  return lower && rule.lower !== undefined ? rule.lower : rule.otherwise
}

const kinds: { readonly [outcome in Outcome]: Pick<FieldChange, "kind" | "forceable"> } = {
  update: { kind: "update", forceable: true },
  keep: { kind: "kept", forceable: false },
  prefer: { kind: "kept", forceable: true },
  refuse: { kind: "conflict", forceable: true },
  fixed: { kind: "conflict", forceable: false },
}

const compare = (resource: Resource, actual: Config): ReadonlyArray<FieldChange> => {
  const changes: Array<FieldChange> = []
  for (const rule of rules[resource.table ?? resource.kind]) {
    const wanted = fieldOf(resource.config, rule.field)
    const value = fieldOf(actual, rule.field)
    if (isSame(wanted, value)) continue
    const change: FieldChange = {
      ...kinds[outcomeOf(rule, wanted, value)],
      resource,
      field: rule.field,
      wanted,
      actual: value,
      why: rule.why,
    }
    if (isLayout(rule) && change.kind === "conflict") return [change]
    changes.push(change)
  }
  return changes
}

/** Compares what is wanted with what exists. */
export const diff = (wanted: ReadonlyArray<Resource>, actual: Actual): Diff => ({
  changes: wanted.flatMap((resource): ReadonlyArray<Change> => {
    const found = actual.get(keyOf(resource))
    return found === undefined ? [{ kind: "create", resource }] : compare(resource, found)
  }),
  actual,
})
