/**
 * The application's responder in the form that implementations call.
 *
 * Invariant: replies are checked and become RawMessages (headers and bytes). A handler that returns
 * anything else fails the request with RESPONDER_FAILED, which describes what it returned.
 * Cost: a copy of the headers of each reply.
 */
import { RivuletError } from '../../errors.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import type { Responder, ResponderContext } from '../broker.ts';
import type { CalledWork } from '../dispatch/scope.ts';
import type { Message, RawMessage } from '../message/message.ts';
import { ownMessage } from '../message/message-check.ts';
import { reasonOf } from '../message/reason.ts';
import { Received, type ReceivedMessage } from '../message/received-message.ts';
import { ReceivedMessages } from './own-call.ts';
import type { RawContext, RawResponder } from './responses.ts';

/** A call of the application's responder: `inHandler` until it, and the stream that it returned, has ended. */
interface ResponderWork extends CalledWork {
  inHandler: boolean;
}

/** `run` calls the handler, and the stream that it returned, in the context that its subscriber needs. */
export function ownReplies(
  topic: string,
  handler: Responder,
  run: <T>(work: CalledWork, call: () => T) => T,
): RawResponder {
  const origin = { topic };
  const own = (reply: Message): RawMessage => {
    try {
      return ownMessage(reply, false);
    } catch (cause) {
      const text = `the responder on ${topic} returned no message that can be sent: ${reasonOf(cause)}`;
      throw new RivuletError('RESPONDER_FAILED', text, { cause });
    }
  };
  return (request, context) => {
    const visible = new OwnContext(context);
    const work: ResponderWork = { inHandler: true, whenOut: null };
    const inside = <T>(call: () => T): T => run(work, call);
    const end = (): void => {
      work.inHandler = false;
      work.whenOut?.();
      work.whenOut = null;
    };
    let result: ReturnType<Responder>;
    try {
      result = inside(() => handler(new Received(request, origin), visible));
    } catch (error) {
      end();
      throw error;
    }
    if (isMany(result)) return all(result, own, inside, end);
    return Promise.resolve(result).then(
      (reply) => {
        if (isMany(reply)) return all(reply, own, inside, end);
        end();
        return own(reply as Message);
      },
      (error) => {
        end();
        throw error;
      },
    );
  };
}

/** The handler's context. Its signal and messages are created when they are first read. */
class OwnContext implements ResponderContext {
  readonly topic: string;
  readonly #raw: RawContext;
  #messages: ReceivedMessages | null = null;

  constructor(raw: RawContext) {
    this.#raw = raw;
    this.topic = raw.topic;
  }

  get signal(): AbortSignal {
    return this.#raw.signal;
  }

  /** @internal */
  onAbort(listener: (reason: unknown) => void): void {
    this.#raw.onAbort(listener);
  }

  get messages(): AsyncIterableIterator<ReceivedMessage> {
    this.#messages ??= new ReceivedMessages(this.topic, this.#raw.messages);
    return this.#messages;
  }
}

/** Calls back when the context's signal aborts; creates no signal where none has been read. One listener. */
export function onCallAborted(
  context: ResponderContext,
  listener: (reason: unknown) => void,
): void {
  if (context instanceof OwnContext) context.onAbort(listener);
  else onAbort(context.signal, () => listener(context.signal.reason));
}

/** Returns what the handler's iterator returns at its end. */
async function* all(
  replies: AsyncIterable<Message>,
  own: (reply: Message) => RawMessage,
  inside: <T>(call: () => T) => T,
  end: () => void,
): AsyncGenerator<RawMessage, unknown, void> {
  const iterator = inside(() => replies[Symbol.asyncIterator]());
  let isRunning = true;
  try {
    for (;;) {
      isRunning = false;
      const { done, value } = await inside(() => iterator.next());
      if (done) return value;
      isRunning = true;
      yield own(value);
    }
  } finally {
    try {
      if (isRunning) await inside(() => iterator.return?.());
    } finally {
      end();
    }
  }
}

export function isMany(result: unknown): result is AsyncIterable<never> {
  return typeof result === 'object' && result !== null && Symbol.asyncIterator in result;
}
