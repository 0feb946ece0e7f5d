/**
 * What a caller sends, before a broker has it: checked, copied, and with the headers of the caller's trace.
 *
 * Cost: as `ownMessage`; the capabilities are read only for bodies above 1,024 bytes.
 */
import { RivuletError } from '../../errors.ts';
import type { Broker } from '../broker.ts';
import type { PublishWatch } from '../dispatch/publish-observers.ts';
import type { Tracing } from '../trace.ts';
import type { Message, RawMessage } from './message.ts';
import { ownMessage } from './message-check.ts';

/** Every broker takes bodies of this size, so `capabilities` is read only for larger ones. */
const SMALL_BYTES = 1024;

export class OutgoingMessages {
  readonly #broker: Pick<Broker, 'options' | 'capabilities'>;
  readonly #tracing: () => Tracing;

  constructor(broker: Pick<Broker, 'options' | 'capabilities'>, tracing: () => Tracing) {
    this.#broker = broker;
    this.#tracing = tracing;
  }

  /** A copy of the message; throws INVALID_ARGUMENT or BODY_TOO_LARGE. */
  own(
    topic: string,
    given: Message,
    copyBody: boolean,
    trace: PublishWatch['trace'] | null = null,
  ): RawMessage {
    const message = ownMessage(given, copyBody);
    this.checkSize(topic, message.body);
    const headers =
      trace === null || message.headers.traceparent !== undefined
        ? this.#tracing().inject(message.headers)
        : { ...message.headers, ...trace };
    return headers === message.headers ? message : { ...message, headers };
  }

  checkSize(topic: string, { length }: Uint8Array): void {
    const own = this.#broker.options.maxBodyBytes;
    const limit =
      length <= SMALL_BYTES ? own : Math.min(own, this.#broker.capabilities.maxBodyBytes);
    if (length <= limit) return;
    const text = `a body of ${length} bytes for ${topic}: at most ${limit} are allowed`;
    throw new RivuletError('BODY_TOO_LARGE', text);
  }
}
