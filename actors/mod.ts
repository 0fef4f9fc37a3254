/**
 * What lives: the supervision kit, for programs that want supervisors of their own, and the parts of
 * a server, for people who extend it.
 *
 * @module
 */
export * as ChildSpec from "./kit/ChildSpec.ts"
export * as Report from "./kit/Report.ts"
export * as Supervisor from "./kit/Supervisor.ts"
export * as SupervisionError from "./kit/errors.ts"
export * as Server from "./Server.ts"
