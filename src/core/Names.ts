/** Which names are legal, and the errors for those that are not. */
import { InvalidOptions } from "./errors.ts"
import { maxNameLength } from "./Limits.ts"

const token = /^[A-Za-z0-9][A-Za-z0-9_-]*$/
const jobName = /^[A-Za-z0-9][A-Za-z0-9_/-]*$/

/** A value as it is shown in an error: quoted, and never longer than a line. */
export const show = (value: unknown): string => {
  const text = typeof value === "string"
    ? JSON.stringify(value)
    : typeof value === "object" && value !== null
    ? Object.prototype.toString.call(value)
    : String(value)
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

const check =
  (pattern: RegExp, extra: string) => (field: string, value: unknown): InvalidOptions | undefined =>
    typeof value === "string" && value.length <= maxNameLength && pattern.test(value)
      ? undefined
      : new InvalidOptions({
        field,
        value: show(value),
        reason: `a name has 1 to ${maxNameLength} letters, digits, "_"${extra} and "-", ` +
          `and begins with a letter or digit`,
      })

/** Checks a queue name, namespace, group or caller-chosen id. */
export const checkName: (field: string, value: unknown) => InvalidOptions | undefined = check(
  token,
  "",
)

/** Checks the name of a job definition, which may also hold `/`. */
export const checkJobName: (field: string, value: unknown) => InvalidOptions | undefined = check(
  jobName,
  `, "/"`,
)

/** Checks that options are an object that has no other keys than those known. */
export const checkKeys = (
  what: string,
  options: unknown,
  known: ReadonlyArray<string>,
): InvalidOptions | undefined => {
  if (typeof options !== "object" || options === null) {
    return new InvalidOptions({
      field: what,
      value: show(options),
      reason: `an object is expected; known options are ${known.join(", ")}`,
    })
  }
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) {
      return new InvalidOptions({
        field: `${what}.${key}`,
        value: show((options as Record<string, unknown>)[key]),
        reason: `there is no such option; known are ${known.join(", ")}`,
      })
    }
  }
  return undefined
}
