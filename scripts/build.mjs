// Builds dist/ for npm.

import process from "node:process"
import { build } from "./compiler.mjs"
import { setup } from "./setup.mjs"

setup()
process.exit(build() ? 0 : 1)
