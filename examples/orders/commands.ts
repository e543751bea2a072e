/**
 * How a command becomes events, once, however often it is sent.
 */
import { Effect, Option, Schema } from "effect"
import { Aggregate, CommandStore } from "effect-stores"
import { Command, Conflict, decide, idOf, NotFound, Order, OrderEvent, Refused, tenantId } from "./order.js"
import { shown } from "./readModel.js"

const commands = CommandStore.forSchema(Command)

/** What is kept of a command, and returned to whoever sends it again. */
const Outcome = Schema.Struct({
  version: Schema.Int,
  position: Schema.OptionFromNullOr(Schema.Int),
  events: Schema.Array(OrderEvent)
})

/** Refusals are outcomes too. Any other failure leaves the command open, and sending it again tries again. */
const Failure = Schema.Union(NotFound, Refused, Conflict)

/** How long those who send a command again wait for a process that died with it: less than clients do. */
const lease = "5 seconds"

/**
 * 1. Takes the command by its id. If it is done, returns its outcome.
 * 2. Decides on the order as it is, and appends the events. Should the process die here, whoever sends the command
 *    again finds these events, and nothing is decided twice.
 * 3. Waits for the read model, so that whoever gets the response and reads sees the change.
 */
export const execute = (commandId: string, command: Command, object?: string) =>
  commands
    .execute(
      command,
      { id: commandId, tenantId, domain: Order.domain },
      Effect.gen(function* () {
        const { expectedVersion: expected, orderId } = command
        const { events, position, version } = yield* Aggregate.execute(Order, idOf(orderId), (order, actual) =>
          expected === undefined || expected === actual
            ? decide(order, command, object)
            : Effect.fail(new Conflict({ expected, actual }))
        )
        return { version, position, events }
      }),
      { success: Outcome, failure: Failure, lease }
    )
    .pipe(Effect.tap(({ position }) => Option.match(position, { onNone: () => Effect.void, onSome: shown })))
