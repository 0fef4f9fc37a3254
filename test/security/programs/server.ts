/** A server of jobs whose NATS refuses it. */
import * as Layer from "effect/Layer"
import { Nats, runMain, Server } from "../../../mod.ts"

runMain(Server.layer({ queues: { default: 1 } }).pipe(Layer.provide(Nats.layer())))
