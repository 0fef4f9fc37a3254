import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import { describe } from "node:test"
import { effect } from "../harness.ts"
import { linesOf } from "./program.ts"

describe("the example of reading", () => {
  effect("shows counts, queues, servers and failed jobs, and ends", () =>
    Effect.gen(function* () {
      const lines = yield* linesOf("inspect.ts")
      const [mail, reports, mailQueue, reportQueue, host, server, ...failed] = lines
      assert.equal(mail, "mail: 0 enqueued, 0 processing, 1 scheduled, 2 succeeded, 2 failed")
      assert.equal(reports, "reports: 2 enqueued, 1 processing, 0 scheduled, 0 succeeded, 0 failed")
      assert.match(mailQueue ?? "", /^mail: nothing waits \(0 ms\), served by office-/)
      assert.match(reportQueue ?? "", /^reports: waiting since 20.* \(\d+ ms\), served by office-/)
      assert.match(host ?? "", /^a server on ./)
      assert.equal(server, "knows mail, report; runs report")
      assert.deepEqual(failed.sort(), [
        '{"to":"nobody"} no address',
        '{"to":"somebody"} no address',
      ])
    }))
})
