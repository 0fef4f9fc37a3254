/** The order of jobs inside a queue: `critical > high > normal > low`. */

/** How urgent a job is among the jobs of its queue. */
export type Priority = "critical" | "high" | "normal" | "low"

/** All priorities, most urgent first. */
export const all: ReadonlyArray<Priority> = ["critical", "high", "normal", "low"]

/** Lane of the engine itself, ahead of `critical`: jobs that a server has given back. */
export const engineLane = 0

/** All lanes of a queue in the order in which they are served. */
export const lanes: ReadonlyArray<number> = [0, 1, 2, 3, 4]

/** Number of a priority on the wire: 1 (critical) to 4 (low). */
export const toLane = (priority: Priority): number => all.indexOf(priority) + 1

/** Priority of a number on the wire; what is not known counts as `normal`. */
export const fromLane = (lane: number): Priority => all[lane - 1] ?? "normal"
