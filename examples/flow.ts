/**
 * Workflows: jobs composed like Effects. One step after the other, side by side, once for each element
 * of a result; each takes what the one before it gives.
 *
 *     bun examples/flow.ts    deno run -A examples/flow.ts    node examples/flow.ts
 */
import { Batch, Flow, Job, Nats, Retry, Server } from "../mod.ts"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

class Unreadable extends Schema.TaggedError<Unreadable>()("Unreadable", { image: Schema.String }) {}

const Images = Schema.Array(Schema.String)

const Scan = Job.make("album/scan", { payload: Schema.String, success: Images })
const Resize = Job.make("image/resize", {
  payload: Schema.String,
  success: Schema.String,
  error: Unreadable,
  retry: Retry.none,
})
const Cover = Job.make("album/cover", { payload: Images, success: Schema.String })
const Publish = Job.make("album/publish", {
  payload: Schema.Struct({ cover: Schema.String, images: Images }),
  success: Schema.String,
})

const Live = Server.layer({ queues: { default: 20 } }).pipe(
  Layer.provide([
    Scan.toLayer((album) =>
      Effect.succeed(album === "ruin" ? ["ruin/x.raw"] : [`${album}/1.jpg`, `${album}/2.jpg`])
    ),
    Resize.toLayer((image) =>
      image.endsWith(".jpg")
        ? Effect.succeed(image.replace(".jpg", ".small.jpg"))
        : new Unreadable({ image })
    ),
    Cover.toLayer((images) => Effect.succeed(images[0] ?? "empty.jpg")),
    Publish.toLayer(({ cover, images }) =>
      Effect.succeed(`${images.length} images behind ${cover}`)
    ),
  ]),
  Layer.provide(Nats.layerEmbedded()),
)

/** The images are resized once, and the cover is made of them while nothing else waits for it. */
const album = (name: string) =>
  Flow.job(Scan, name).pipe(
    Flow.forEach(Resize),
    Flow.share((images) => Flow.all({ images, cover: images.pipe(Flow.andThen(Cover)) })),
    Flow.andThen(Publish),
  )

const program = Effect.gen(function* () {
  console.log("summer:", yield* Flow.execute(album("summer"), { within: "20 seconds" }))

  // Stored in one step; whoever has the handle can wait for the result, look, or cancel.
  const handle = yield* Flow.enqueue(album("winter"), { description: "album winter" })
  console.log("winter:", yield* Flow.await(album("winter"), handle, { within: "20 seconds" }))
  const { description, state } = yield* Batch.await(handle.batch, { within: "20 seconds" })
  console.log(`${description}: ${state}`)

  // The error of the job that failed, whatever was to follow it.
  const ruin = yield* Effect.flip(Flow.execute(album("ruin"), { within: "20 seconds" }))
  console.log("ruin:", ruin._tag === "Unreadable" ? `${ruin.image} is unreadable` : ruin.message)
})

await Effect.runPromise(Effect.provide(program, Live))
