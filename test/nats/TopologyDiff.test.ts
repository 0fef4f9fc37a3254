import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { describe, it } from "node:test"
import { type Actual, diff, type FieldChange, keyOf } from "../../src/nats/TopologyDiff.ts"
import {
  type Config,
  consumersOf,
  engineVersion,
  maxWaiting,
  plan,
  type Resource,
  rules,
} from "../../src/nats/TopologyPlan.ts"

const [state, jobs, logs] = plan({ namespace: "a" }).streams as [Resource, Resource, Resource]
const [consumer] = consumersOf({ namespace: "a", partition: 0, queue: "mail" }) as [Resource]

const holding = (resource: Resource, changed: Config): Actual =>
  new Map([[keyOf(resource), { ...resource.config, ...changed }]])

/** What is said about a field when the server has that value. */
const about = (resource: Resource, changed: Config): ReadonlyArray<unknown> =>
  diff([resource], holding(resource, changed)).changes.map((change) => {
    const { actual, field, forceable, kind, wanted } = change as FieldChange
    return { field, kind, forceable, wanted, actual }
  })

describe("plan", () => {
  it("has the state stream first, one work queue per partition, and the lines of jobs", () => {
    const { partitions, streams } = plan({ namespace: "a", partitions: 3 })
    assert.equal(partitions, 3)
    assert.deepEqual(
      streams.map(({ config, name }) => [name, config.retention, config.subjects]),
      [
        ["PF_a_STATE", "limits", ["pf.a.state.>"]],
        ["PF_a_JOBS_0", "workqueue", ["pf.a.0.>"]],
        ["PF_a_JOBS_1", "workqueue", ["pf.a.1.>"]],
        ["PF_a_JOBS_2", "workqueue", ["pf.a.2.>"]],
        ["PF_a_LOGS", "limits", ["pf.a.log.>"]],
      ],
    )
  })

  it("notes the version of this package", () => {
    const manifest = readFileSync(new URL("../../deno.json", import.meta.url), "utf8")
    assert.equal(engineVersion, JSON.parse(manifest).version)
    for (const { config } of plan({ namespace: "a" }).streams) {
      assert.equal((config.metadata as Config)["portfire.version"], engineVersion)
    }
  })

  it("passes replicas and storage on to every stream", () => {
    const { streams } = plan({ namespace: "a", replicas: 3, storage: "memory" })
    assert.deepEqual(
      streams.map(({ config }) => [config.num_replicas, config.storage]),
      [[3, "memory"], [3, "memory"], [3, "memory"]],
    )
  })
})

describe("consumersOf", () => {
  it("gives one consumer per priority, most urgent first, each with its own filter", () => {
    assert.deepEqual(
      consumersOf({ namespace: "a", partition: 2, queue: "mail" }).map((
        { config, name, stream },
      ) => [
        stream,
        name,
        config.filter_subject,
      ]),
      [0, 1, 2, 3, 4].map((priority) => [
        "PF_a_JOBS_2",
        `ready_mail_${priority}`,
        `pf.a.2.ready.mail.${priority}.>`,
      ]),
    )
  })
})

describe("diff", () => {
  it("creates what doesn't exist, in the order of the plan", () => {
    assert.deepEqual(diff([state, jobs, consumer], new Map()).changes, [
      { kind: "create", resource: state },
      { kind: "create", resource: jobs },
      { kind: "create", resource: consumer },
    ])
  })

  it("is empty when everything is as planned", () => {
    for (const resource of [state, jobs, logs, consumer]) {
      assert.deepEqual(about(resource, {}), [])
    }
  })

  it("leaves the bounds of what jobs write to the operator", () => {
    const bounds = {
      max_age: 1,
      max_bytes: 2,
      max_msgs: 3,
      max_msgs_per_subject: 4,
      discard: "new",
    }
    for (const [field, actual] of Object.entries(bounds)) {
      const wanted = logs.config[field]
      assert.deepEqual(about(logs, { [field]: actual }), [
        { field, kind: "kept", forceable: false, wanted, actual },
      ])
    }
  })

  it("refuses a stream of lines that can't replace a progress", () => {
    const field = "allow_rollup_hdrs"
    assert.deepEqual(about(logs, { [field]: false }), [
      { field, kind: "conflict", forceable: true, wanted: true, actual: false },
    ])
  })

  it("ignores what the server and operators add", () => {
    assert.deepEqual(
      about(jobs, {
        description: "mine",
        compression: "s2",
        placement: { tags: ["ssd"] },
        republish: { src: ">", dest: "copy.>" },
        max_msg_size: 10_000,
        metadata: {
          ...jobs.config.metadata as Config,
          "_nats.ver": "2.14.0",
          "portfire.version": "0.0.9",
          team: "payments",
        },
      }),
      [],
    )
  })

  it("takes a field that is left out for its zero value", () => {
    assert.deepEqual(about(jobs, { deny_delete: undefined, max_age: undefined, sealed: false }), [])
  })

  it("doesn't mind the order of subjects", () => {
    const two: Resource = { ...jobs, config: { ...jobs.config, subjects: ["a", "b"] } }
    assert.deepEqual(about(two, { subjects: ["b", "a"] }), [])
  })

  it("updates what may be raised, and keeps what is higher already", () => {
    const three = plan({ namespace: "a", replicas: 3 }).streams[1] as Resource
    const field = "num_replicas"
    assert.deepEqual(about(three, { num_replicas: 1 }), [
      { field, kind: "update", forceable: true, wanted: 3, actual: 1 },
    ])
    assert.deepEqual(about(three, { num_replicas: 5 }), [
      { field, kind: "kept", forceable: false, wanted: 3, actual: 5 },
    ])
  })

  it("keeps a longer ack wait, and lets force shorten it", () => {
    const wait = 30_000_000_000
    assert.deepEqual(about(consumer, { ack_wait: 2 * wait }), [
      { field: "ack_wait", kind: "kept", forceable: true, wanted: wait, actual: 2 * wait },
    ])
    assert.deepEqual(about(consumer, { ack_wait: wait / 2 }), [
      { field: "ack_wait", kind: "update", forceable: true, wanted: wait, actual: wait / 2 },
    ])
  })

  it("refuses fewer waiting pulls, which can't be changed", () => {
    assert.deepEqual(about(consumer, { max_waiting: 512 }), [
      {
        field: "max_waiting",
        kind: "conflict",
        forceable: false,
        wanted: maxWaiting,
        actual: 512,
      },
    ])
  })

  it("refuses a switch that is off, and minds none that is on besides", () => {
    assert.deepEqual(about(jobs, { allow_atomic: undefined }), [
      {
        field: "allow_atomic",
        kind: "conflict",
        forceable: true,
        wanted: true,
        actual: undefined,
      },
    ])
    assert.deepEqual(about(state, { allow_atomic: true }).map((it) => (it as FieldChange).kind), [
      "kept",
    ])
  })

  it("says nothing but the layout when that is another", () => {
    assert.deepEqual(
      about(jobs, { retention: "limits", metadata: { "portfire.layout": "2" } }),
      [{
        field: "metadata.portfire.layout",
        kind: "conflict",
        forceable: false,
        wanted: "1",
        actual: "2",
      }],
    )
  })

  it("adds metadata that is missing", () => {
    assert.deepEqual(about(jobs, { metadata: undefined }), [
      {
        field: "metadata.portfire.layout",
        kind: "update",
        forceable: true,
        wanted: "1",
        actual: undefined,
      },
      {
        field: "metadata.portfire.partitions",
        kind: "update",
        forceable: true,
        wanted: "1",
        actual: undefined,
      },
    ])
  })
})

describe("rules", () => {
  it("have one row per field, each with a reason", () => {
    for (const table of Object.values(rules)) {
      const fields = table.map(({ field }) => field)
      assert.equal(new Set(fields).size, fields.length)
      for (const { why } of table) assert.notEqual(why, "")
    }
  })
})
