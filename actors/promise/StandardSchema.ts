/** Schemas of other libraries, by the Standard Schema specification, version 1. */

/** What validating a value gave: the value as the schema makes it, or what is wrong with it. */
export type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: ReadonlyArray<StandardIssue> }

/** One thing that is wrong with a value. */
export interface StandardIssue {
  /** What, for people. */
  readonly message: string
  /** Where, from the outside in. */
  readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined
}

/**
 * A schema of any library that implements Standard Schema (https://standardschema.dev): Zod, Valibot,
 * ArkType and others; `Schema.toStandardSchemaV1` makes one of an Effect schema.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  /** What the specification asks for. */
  readonly "~standard": {
    readonly version: 1
    readonly vendor: string
    readonly validate: (
      value: unknown,
    ) => StandardResult<Output> | PromiseLike<StandardResult<Output>>
    readonly types?: { readonly input: Input; readonly output: Output } | undefined
  }
}

/** What goes into a schema; `void` where there is none. */
export type InputOf<S> = S extends StandardSchema<infer _, unknown>
  ? NonNullable<S["~standard"]["types"]>["input"]
  : void

/** What comes out of a schema; `void` where there is none. */
export type OutputOf<S> = S extends StandardSchema<infer _, unknown>
  ? NonNullable<S["~standard"]["types"]>["output"]
  : void
