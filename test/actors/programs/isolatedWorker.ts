/** Serves all of the isolated jobs; what it is waits for the top of the module. */
import { Isolated } from "../../../mod.ts"
import { handle, InProcess, InThread, Short, Twice } from "./isolatedJobs.ts"

await new Promise((done) => setTimeout(done, 10))
Isolated.serve(InThread, handle)
Isolated.serve(InProcess, handle)
Isolated.serve(Twice, handle)
Isolated.serve(Short, handle)
