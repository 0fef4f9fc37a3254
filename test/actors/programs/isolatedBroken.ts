/** A module that can't be a worker in the way that the environment says, and can where it is silent. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import process from "node:process"
import { Isolated } from "../../../mod.ts"
import { handle, Here, InProcess, InThread } from "./isolatedJobs.ts"

switch (process.env["BROKEN"]) {
  case undefined:
    Isolated.serve(InProcess, handle)
    break
  case "throws":
    throw new Error("at the top")
  case "another":
    Isolated.serve(Here, handle)
    break
  case "slow":
    setInterval(() => {}, 1_000)
    break
  case "layer": {
    const layer = Layer.effectDiscard(Effect.fail(new Error("no database")))
    Isolated.serve(InThread, handle, layer)
    Isolated.serve(InProcess, handle, layer)
    break
  }
}
