/** Why the demonstration can't go on. */
import * as Data from "effect/Data"

/** A sentence for a person, and the exit code. */
export class DemoFailed extends Data.Error<{ readonly reason: string; readonly code: number }> {
  readonly _tag = "DemoFailed"
  override readonly name = "DemoFailed"
  override get message(): string {
    return this.reason
  }
}
