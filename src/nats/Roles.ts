/**
 * The NATS permissions that each kind of Portfire process needs, and no more: as data, and as
 * configuration for the server. What a user can do with them beyond its work is told in
 * docs/security.md.
 *
 * @module
 */
import { countedStates } from "./Counts.ts"
import * as Subjects from "./Subjects.ts"

/**
 * - `setup`: makes and changes the streams of a namespace. Needed once per namespace and version.
 * - `enqueuer`: stores jobs, and reads nothing.
 * - `producer`: stores jobs, batches, workflows and continuations, reads jobs and waits for results.
 * - `worker`: a server.
 * - `viewer`: inspects, and changes nothing.
 * - `operator`: inspects, operates on jobs, and declares recurring entries; runs no jobs.
 */
export type Role = "setup" | "enqueuer" | "producer" | "worker" | "viewer" | "operator"

/** All roles, from the one that every installation needs first. */
export const roles: ReadonlyArray<Role> = [
  "setup",
  "enqueuer",
  "producer",
  "worker",
  "viewer",
  "operator",
]

/** What permissions are made for. */
export interface RoleOptions {
  /** The namespace; default `portfire`. */
  readonly namespace?: string | undefined
  /** Its number of partitions, since each is a stream with subjects of its own; default 1. */
  readonly partitions?: number | undefined
  /** The `inboxPrefix` that the user's processes connect with; default `_INBOX_<role>`, for example
   * `_INBOX_worker`. */
  readonly inboxPrefix?: string | undefined
}

/** What a NATS user may do. */
export interface Permissions {
  /** Subjects that it may publish to. */
  readonly publish: ReadonlyArray<string>
  /** Subjects that it may subscribe to. */
  readonly subscribe: ReadonlyArray<string>
  /** Whether it may answer a question that it was asked, wherever the answer is to go. */
  readonly answers: boolean
}

interface Place {
  readonly namespace: string
  readonly inbox: string
  readonly jobs: ReadonlyArray<string>
  readonly streams: ReadonlyArray<string>
  readonly state: string
}

const api = (streams: ReadonlyArray<string>, ...verbs: ReadonlyArray<string>) =>
  verbs.flatMap((verb) => streams.map((stream) => `$JS.API.${verb.replace("%", stream)}`))

/** What everybody does at the start: look whether the streams are there, and set the clock. */
const start = ({ streams }: Place) => ["$JS.API.INFO", ...api(streams, "STREAM.INFO.%")]

const reading = ({ streams }: Place) => api(streams, "DIRECT.GET.%", "STREAM.MSG.GET.%")

const subjects = ({ namespace }: Place, ...names: ReadonlyArray<string>) =>
  names.map((name) => `pf.${namespace}.${name}`)

/** Consumers whose filter begins with one of these states; the filter is part of the subject. */
const consumers = ({ jobs, namespace }: Place, ...names: ReadonlyArray<string>) =>
  names.flatMap((name) =>
    jobs.map((stream, partition) =>
      `$JS.API.CONSUMER.CREATE.${stream}.*.pf.${namespace}.${partition}.${name}.>`
    )
  )

/** New jobs, and what batches and continuations are made of. */
const producing = (place: Place) => [
  ...start(place),
  ...reading(place),
  ...api(place.jobs, "CONSUMER.INFO.%.*", "STREAM.MSG.DELETE.%"),
  ...subjects(place, "*.ready.>", "*.later.>", "*.await.>", "*.link.>", "*.claim.>"),
  // Who follows what has failed already is cancelled at once; a batch is ended by whoever sees it.
  ...subjects(place, "*.cancelled.>", "*.succeeded._engine.>", "*.failed._engine.>"),
  ...subjects(place, "state.retention._flow"),
  ...subjects(place, "ctl.find", "ctl.interest", "ctl.ended", "ctl.ended.*", "ctl.void"),
]

/** What is there, and how much of it. */
const viewing = (place: Place) => [
  ...start(place),
  ...reading(place),
  ...api(place.jobs, "CONSUMER.INFO.%.*", "CONSUMER.LIST.%"),
  ...consumers(place, ...countedStates),
  ...subjects(place, "ctl.find", "ctl.describe", "ctl.interest"),
]

const hearing = (place: Place) => [
  place.inbox,
  ...subjects(place, "ctl.ended", "ctl.ended.*", "log.>"),
]

const tables: { readonly [role in Role]: (place: Place) => Permissions } = {
  setup: (place) => ({
    publish: [...start(place), ...api(place.streams, "STREAM.CREATE.%", "STREAM.UPDATE.%")],
    subscribe: [place.inbox],
    answers: false,
  }),
  enqueuer: (place) => ({
    publish: [
      ...start(place),
      ...api(place.jobs, "CONSUMER.INFO.%.*"),
      ...subjects(place, "*.ready.>", "*.later.>"),
    ],
    subscribe: [place.inbox],
    answers: false,
  }),
  producer: (place) => ({
    publish: producing(place),
    subscribe: hearing(place),
    answers: false,
  }),
  worker: (place) => ({
    publish: [
      ...start(place),
      ...reading(place),
      ...api(place.jobs, "CONSUMER.INFO.%.*", "CONSUMER.MSG.NEXT.%.*"),
      ...consumers(place, "ready"),
      ...api(place.jobs, "STREAM.MSG.DELETE.%", "STREAM.PURGE.%"),
      ...api([place.state], "STREAM.PURGE.%"),
      ...place.jobs.map((stream) => `$JS.ACK.${stream}.>`),
      `pf.${place.namespace}.>`,
    ],
    subscribe: [place.inbox, ...subjects(place, "ctl.>", "log.>")],
    answers: true,
  }),
  viewer: (place) => ({
    publish: viewing(place),
    subscribe: hearing(place),
    answers: false,
  }),
  operator: (place) => ({
    publish: [
      ...producing(place),
      ...viewing(place),
      ...api(place.jobs, "STREAM.PURGE.%"),
      ...subjects(place, "*.retry.>", "state.where.*"),
    ],
    subscribe: hearing(place),
    answers: false,
  }),
}

/** The permissions of a role, or of a user that has several. */
export const permissionsOf = (
  role: Role | ReadonlyArray<Role>,
  options: RoleOptions = {},
): Permissions => {
  const wanted = typeof role === "string" ? [role] : role
  const { inboxPrefix = `_INBOX_${wanted.join("_")}`, namespace = "portfire", partitions = 1 } =
    options
  const jobs = Array.from({ length: partitions }, (_, p) => Subjects.jobsStream(namespace, p))
  const state = Subjects.stateStream(namespace)
  const streams = [state, ...jobs, Subjects.logsStream(namespace)]
  const place: Place = { namespace, inbox: `${inboxPrefix}.>`, jobs, state, streams }
  const all = wanted.map((one) => tables[one](place))
  return {
    publish: [...new Set(all.flatMap(({ publish }) => publish))],
    subscribe: [...new Set(all.flatMap(({ subscribe }) => subscribe))],
    answers: all.some(({ answers }) => answers),
  }
}

const list = (name: string, subjects: ReadonlyArray<string>, indent: string): string =>
  `${indent}${name}: [\n${
    subjects.map((subject) => `${indent}  "${subject}"\n`).join("")
  }${indent}]\n`

/**
 * Permissions in the format of a nats-server's configuration: the value of a user's `permissions`.
 *
 * @example
 * ```ts
 * import { Roles } from "@portfire/portfire"
 *
 * console.log(`permissions: ${Roles.render(Roles.permissionsOf("worker", { partitions: 4 }))}`)
 * ```
 */
export const render = ({ answers, publish, subscribe }: Permissions, indent = ""): string =>
  `{\n${list("publish", publish, `${indent}  `)}${list("subscribe", subscribe, `${indent}  `)}` +
  (answers ? `${indent}  allow_responses: { max: 1, expires: "1m" }\n` : "") +
  `${indent}}`
