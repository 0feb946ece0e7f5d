/**
 * A message of `wf.publish` before it is sent: as the fields of a stream's entry, so that the commit of the
 * journal carries it.
 */
import type { Broker } from '../../broker/broker.ts';
import { encodeMessage } from '../../broker/message/entry.ts';
import type { Message, RawMessage } from '../../broker/message/message.ts';
import type { PublishOptions } from '../../broker/options/options.ts';
import type { Topic } from '../../broker/topics/topic.ts';
import { checkTopic } from '../../broker/topics/topics.ts';
import { RivuletError } from '../../errors.ts';
import type { PublishRequest } from '../execution/context.ts';

export interface Captured {
  readonly topic: string;
  readonly fields: (string | Uint8Array)[];
  readonly at: number | undefined;
  readonly delayMs: number | undefined;
}

/** Rejects with VALIDATION_FAILED, TOPIC_ILLEGAL or BODY_TOO_LARGE. */
export async function captured(request: PublishRequest, most: number): Promise<Captured> {
  const { topic, value, options } = request;
  const { headers, key, delayMs, deliverAt } = options;
  let message: Message;
  if (typeof topic === 'string') {
    const given = value as Message;
    message = {
      ...given,
      headers: { ...given.headers, ...headers },
      ...(key === undefined ? {} : { key }),
    };
  } else {
    message = await encoded(topic, value, {
      ...(headers && { headers }),
      ...(key !== undefined && { key }),
    });
  }
  const name = typeof topic === 'string' ? topic : topic.name;
  checkTopic(name);
  const body = typeof message.body === 'string' ? Buffer.from(message.body) : message.body;
  if (!(body instanceof Uint8Array)) {
    throw new RivuletError(
      'INVALID_ARGUMENT',
      `the body of a message for ${name} is a text or bytes`,
    );
  }
  if (body.length > most) {
    const text = `a message for ${name} has ${body.length} bytes, and at most ${most} are allowed`;
    throw new RivuletError('BODY_TOO_LARGE', text);
  }
  const raw: RawMessage = {
    headers: message.headers ?? {},
    body,
    ...(message.key === undefined ? {} : { key: message.key }),
  };
  const fields: (string | number | bigint | Uint8Array)[] = [];
  encodeMessage(fields, raw);
  return {
    topic: name,
    fields: fields.map((each) => (each instanceof Uint8Array ? each : String(each))),
    at: deliverAt?.getTime(),
    delayMs,
  };
}

/** A typed topic publishes to a broker that only keeps the message. */
async function encoded(
  topic: Topic<unknown, unknown>,
  value: unknown,
  options: object,
): Promise<Message> {
  let kept: Message | null = null;
  const keeper = {
    publish: async (_name: string, message: Message, _options?: PublishOptions) => {
      kept = message;
      return { id: '0-0', duplicate: false };
    },
  };
  await topic.publish(keeper as unknown as Broker, value, options);
  if (kept === null) throw new RivuletError('INTERNAL', `topic ${topic.name} published nothing`);
  return kept;
}
