/**
 * The CommandStore through a Schema of commands (`CommandStore.forSchema`): encoding and decoding at the edge of the
 * store.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type {
  Command,
  CommandDecodeError,
  CommandStore,
  CommandStoreShape,
  Envelope,
  ExecuteOptions,
  Kept,
  OutcomeSchema,
  TypedCommands
} from "../CommandStore.js"
import { tagged } from "../internal/taggedPayload.js"

/** The parts of the contract that are needed at run time: it imports this file, so this file cannot import it. */
export interface Contract {
  readonly tag: Effect.Effect<CommandStoreShape, never, CommandStore>
  readonly decodeError: (command: Command, cause: unknown) => CommandDecodeError
}

export const typedCommands = <A extends { readonly _tag: string }, I extends { readonly _tag: string }, R>(
  schema: Schema.Schema<A, I, R>,
  { decodeError, tag }: Contract
): TypedCommands<A, R> => {
  const command = tagged(schema)
  const encode: TypedCommands<A, R>["encode"] = (value, envelope) => command.encode(value, "command", envelope)
  const decode: TypedCommands<A, R>["decode"] = (stored) => command.decode(stored, decodeError)

  return {
    encode,
    decode,
    create: (command, envelope) =>
      Effect.flatMap(tag, (store) => Effect.flatMap(encode(command, envelope), store.create)),
    execute: <A2, E, R2, Success extends OutcomeSchema, Failure extends OutcomeSchema>(
      command: A,
      envelope: Envelope,
      effect: Effect.Effect<Success["Type"], E, R2> & Kept<A2, E, R2, Success>,
      options?: ExecuteOptions<Success, Failure>
    ) =>
      Effect.flatMap(tag, (store) =>
        Effect.flatMap(encode(command, envelope), (command) =>
          store.execute<A2, E, R2, Success, Failure>(command, effect, options)
        )
      ),
    replay: (filter) =>
      Stream.unwrap(
        Effect.map(tag, (store) =>
          Stream.mapChunksEffect(store.list({ filter }), (chunk) =>
            Effect.map(Effect.forEach(chunk, decode), Chunk.unsafeFromArray)
          )
        )
      )
  }
}
