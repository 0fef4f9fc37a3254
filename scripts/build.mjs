// Builds dist/ for npm.

import process from "node:process"
import { build } from "./compiler.mjs"
import { setup } from "./setup.mjs"

setup()
const { good, complaints } = build()
process.stdout.write(complaints)
process.exitCode = good ? 0 : 1
