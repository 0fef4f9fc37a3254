/** What every server can run beside its own handlers: the commands of the engine. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Command from "../src/client/Command.ts"
import type { CurrentJob } from "../src/client/CurrentJob.ts"
import * as FlowSteps from "../src/client/FlowSteps.ts"
import type * as Operate from "../src/client/Operate.ts"
import { runCommand, whereCommand } from "../src/client/OperateMany.ts"
import { revive } from "../src/client/Revive.ts"
import type { ReadyHandler } from "./Pool.ts"

/** What a command gives that has nothing to say: a result has to be a value that can be stored. */
const done: Effect.Effect<null> = Effect.succeed(null)

/** A step of workflows; it leaves a record, for others take its result. */
const step = (
  name: `_${string}`,
  run: (payload: unknown) => Effect.Effect<unknown, unknown, CurrentJob>,
): ReadyHandler => ({
  definition: Command.define(name, FlowSteps.schemas),
  context: Context.empty(),
  // Each attempt is given the current job.
  run: run as ReadyHandler["run"],
})

/** The handlers of the engine's commands. */
export const make = (context: Operate.Context): ReadonlyArray<ReadyHandler> => [
  {
    definition: Command.define(Command.finishName, {}),
    context: Context.empty(),
    silent: true,
    run: (payload) => {
      const job = Command.addressIn(payload)
      return job === undefined ? done : Effect.andThen(context.engine.meet(job), done)
    },
  },
  {
    definition: Command.define(Command.reviveName, {}),
    context: Context.empty(),
    silent: true,
    run: (payload) => {
      const job = Command.addressIn(payload)
      const { engine, patience, wire } = context
      return job === undefined ? done : Effect.andThen(revive(wire, engine, job.id, patience), done)
    },
  },
  {
    definition: whereCommand,
    context: Context.empty(),
    // Each attempt is given the current job.
    run: ((payload) => runCommand(context, payload)) as ReadyHandler["run"],
  },
  step(FlowSteps.fanName, FlowSteps.fan(context.wire, context.engine, context.patience)),
  step(FlowSteps.gatherName, FlowSteps.gather(context.wire)),
  step(FlowSteps.joinName, FlowSteps.join(context.wire)),
]
