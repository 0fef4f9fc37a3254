/** Takes a folder's lock `TIMES` times, each time adding one to a counter file in two steps. */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import * as FolderLock from "../../../src/nats/FolderLock.ts"

const folder = process.env.FOLDER ?? ""
const counter = join(folder, "counter")

for (let i = 0; i < Number(process.env.TIMES); i++) {
  const release = await FolderLock.acquire(folder, new AbortController().signal, 30_000)
  const value = Number(readFileSync(counter, "utf8"))
  if (process.env.HOLD !== undefined) {
    console.log("holding")
    await new Promise((done) => setTimeout(done, 60_000))
  }
  await new Promise((done) => setTimeout(done, Math.random() * 2))
  writeFileSync(counter, String(value + 1))
  release()
}
console.log("done")
