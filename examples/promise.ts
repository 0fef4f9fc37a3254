/**
 * Jobs without Effect: async functions as handlers, promises all the way, and any schema library that
 * has Standard Schema (Zod, Valibot, ArkType and others).
 *
 *     bun examples/promise.ts    deno run -A examples/promise.ts    node examples/promise.ts
 */
import {
  connect,
  InvalidPayload,
  job,
  JobFailed,
  Retry,
  type StandardSchema,
} from "../actors/promise/mod.ts"

interface Welcome {
  readonly to: string
  readonly language: "en" | "eo"
}

// With Zod: z.object({ to: z.email(), language: z.enum(["en", "eo"]).default("en") })
const welcome: StandardSchema<{ to: string; language?: "en" | "eo" }, Welcome> = {
  "~standard": {
    version: 1,
    vendor: "example",
    validate: (value) => {
      const { language = "en", to } = value as Partial<Welcome>
      return to?.includes("@") === true
        ? { value: { to, language } }
        : { issues: [{ message: "an address is expected", path: ["to"] }] }
    },
  },
}

const text: StandardSchema<string> = {
  "~standard": {
    version: 1,
    vendor: "example",
    validate: (value) =>
      typeof value === "string" ? { value } : { issues: [{ message: "a text is expected" }] },
  },
}

const SendWelcome = job("mail/welcome", {
  payload: welcome,
  success: text,
  queue: "mail",
  retry: Retry.fixed({ attempts: 3, delay: "100 millis" }),
  timeout: "30 seconds",
})

const portfire = await connect({ embedded: true })
const server = await portfire.serve({
  queues: { mail: 10 },
  handlers: [
    SendWelcome.handler(async ({ language, to }, { attempt, discard, signal }) => {
      if (to.endsWith("@example.invalid")) discard("there is no such host")
      if (attempt === 1 && to.startsWith("busy")) throw new Error("the mailbox is busy")
      // A real one would pass the signal on: await fetch(url, { signal })
      signal.throwIfAborted()
      return await Promise.resolve(`${language === "eo" ? "Saluton" : "Hello"}, ${to}`)
    }),
  ],
})

console.log(await portfire.execute(SendWelcome, { to: "ada@example.org" }))

const id = await portfire.enqueue(SendWelcome, { to: "busy@example.org", language: "eo" })
console.log(await portfire.await(SendWelcome, id, { within: "1 minute" }))
const { attempts } = await portfire.get(SendWelcome, id)
console.log(attempts.map(({ ending, message }) => message ?? ending).join(", then "))

try {
  await portfire.execute(SendWelcome, { to: "bob@example.invalid" })
} catch (error) {
  if (!(error instanceof JobFailed)) throw error
  console.log("failed:", error.reason)
}

try {
  await portfire.enqueue(SendWelcome, { to: "nobody" })
} catch (error) {
  if (!(error instanceof InvalidPayload)) throw error
  console.log("refused:", error.field, "-", error.reason)
}

await server.stop()
await portfire.close()
