/** Which job has which fate. Chosen by position, so that each run of the same folder is the same. */
import { join } from "node:path"
import type { SeenFile } from "./files.ts"
import { attempts } from "./jobs.ts"

/** One job to be. */
export interface Task {
  readonly file: SeenFile
  readonly pauseMillis: number
  /** So many first attempts fail on purpose. */
  readonly stumbles: number
  /** Scheduled so much later; 0 for at once. */
  readonly delayMillis: number
  /** Its file doesn't exist: it has to fail for good. */
  readonly missing: boolean
}

/** About so many jobs pause, however many there are: enough for a kill to hit some. */
const pausing = 200

/** Name of the file that isn't there. */
export const missingName = "no-such-file"

/** One job per file, and one for a file that isn't there. */
export const plan = (folder: string, files: ReadonlyArray<SeenFile>): ReadonlyArray<Task> => {
  const every = Math.ceil(files.length / pausing)
  const names = new Set(files.map(({ path }) => path))
  let missing = join(folder, missingName)
  while (names.has(missing)) missing += "-"
  return [
    {
      file: { path: missing, bytes: -1, changed: -1 },
      pauseMillis: 500,
      stumbles: 0,
      delayMillis: 0,
      missing: true,
    },
    ...files.map((file, index): Task => {
      const fate = index % 20
      const stumbles = fate === 0 ? 1 : fate === 2 ? attempts - 1 : 0
      return {
        file,
        pauseMillis: index % every === every - 1 ? 300 + index % 5 * 100 : 0,
        stumbles,
        delayMillis: fate === 1 ? 1_000 : fate === 3 ? 2_000 : 0,
        missing: false,
      }
    }),
  ]
}
