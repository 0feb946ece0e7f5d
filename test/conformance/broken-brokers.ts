/**
 * Brokers that break one promise each, and the case of the suite that must notice.
 *
 * A wrapper changes one thing about a sound broker, as a mistake in an implementation would.
 */
import type { Broker, Delivery, Handler, Subscriber } from '../../src/broker/broker.ts';
import type { Message } from '../../src/broker/message/message.ts';
import { Received } from '../../src/broker/message/received-message.ts';
import type { PublishOptions, SubscribeOptions } from '../../src/broker/options/options.ts';

export interface Breakage {
  /** What the broker does wrong. */
  readonly promise: string;
  /** Group and name of the case that fails for it. */
  readonly noticedBy: readonly [group: string, name: string];
  breaks(sound: Broker): Partial<Broker>;
}

type Options = SubscribeOptions | undefined;

/** The one of subscribe's forms that a breakage replaces, in place of all of them. */
function subscribing(
  subscribe: (topic: string, handler: Handler, options?: SubscribeOptions) => Promise<Subscriber>,
): Broker['subscribe'] {
  return subscribe as Broker['subscribe'];
}

/** A broker that subscribes with other options than it was given. */
function withOptions(sound: Broker, change: (options: SubscribeOptions) => object) {
  const changed = (options: Options) => change(options ?? {}) as SubscribeOptions;
  return {
    subscribe: subscribing((topic, handler, options) =>
      typeof handler === 'function'
        ? sound.subscribe(topic, handler, changed(options))
        : sound.subscribe(topic, changed(handler)),
    ),
  };
}

/** A broker whose handlers get other deliveries. */
function withDeliveries(sound: Broker, change: (delivery: Delivery) => Partial<Delivery>) {
  return {
    subscribe: subscribing((topic, handler, options) =>
      sound.subscribe(topic, (delivery) => handler(over(delivery, change(delivery))), options),
    ),
  };
}

/** A broker that publishes something else than it was given. */
function withPublish(
  sound: Broker,
  change: (message: Message, options: PublishOptions) => [Message, PublishOptions],
) {
  return {
    publish: (topic: string, message: Message, options: PublishOptions = {}) =>
      sound.publish(topic, ...change(message, options)),
  };
}

/** The object with some members replaced; the others stay bound to it. */
export function over<T extends object>(sound: T, replaced: Partial<T>): T {
  return new Proxy(sound, {
    get(target, name) {
      if (Object.hasOwn(replaced, name)) return replaced[name as keyof T];
      const value = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

function without<T extends object>(options: T, ...names: (keyof T)[]): T {
  const copy = { ...options };
  for (const name of names) delete copy[name];
  return copy;
}

export const breakages: readonly Breakage[] = [
  {
    promise: "a dead-letter topic of the subscription's choice is ignored",
    noticedBy: [
      'dead letters',
      "what has used up its attempts goes to the topic of the subscription's choice and to no other",
    ],
    breaks: (sound) =>
      withOptions(sound, (options) =>
        typeof options.deadLetter === 'string' ? without(options, 'deadLetter') : options,
      ),
  },
  {
    promise: 'deadLetter: false writes a dead letter all the same',
    noticedBy: [
      'dead letters',
      'with deadLetter: false a message without attempts left is dropped, and reported',
    ],
    breaks: (sound) =>
      withOptions(sound, (options) =>
        options.deadLetter === false ? without(options, 'deadLetter') : options,
      ),
  },
  {
    promise: 'the time that a batch waits is ignored',
    noticedBy: [
      'batches',
      'a batch that is not full waits for waitMs, and one that fills does not',
    ],
    breaks: (sound) =>
      withOptions(sound, (options) =>
        options.batch === undefined
          ? options
          : { ...options, batch: { ...(options.batch as object), waitMs: 0 } },
      ),
  },
  {
    promise: 'trimmed messages stay pending for ever',
    noticedBy: ['retries', 'a message that is trimmed while pending does not stay pending'],
    breaks(sound) {
      const ever = new Map<string, Awaited<ReturnType<Broker['pending']>>[number]>();
      const watch = async (topic: string, group: string) => {
        for (const each of await sound.pending(topic, group)) ever.set(each.id, each);
      };
      return {
        subscribe: subscribing(async (topic, handler, options) => {
          const watched: Handler = async (delivery) => {
            await watch(topic, options?.group ?? '');
            return handler(delivery);
          };
          return sound.subscribe(topic, watched, options);
        }),
        async pending(topic, group) {
          await watch(topic, group);
          return [...ever.values()];
        },
      };
    },
  },
  {
    promise: 'trimmed messages leave their groups without an event',
    noticedBy: [
      'retries',
      'a message that is trimmed while it waits for its retry is reported once and not delivered',
    ],
    breaks: (sound) => ({
      on: (event, listener) => (event === 'warning' ? () => {} : sound.on(event, listener)),
    }),
  },
  {
    promise: 'delayed messages lose key and headers',
    noticedBy: ['delays', 'a delayed message outlives its publisher'],
    breaks: (sound) =>
      withPublish(sound, (message, options) =>
        options.delayMs === undefined
          ? [message, options]
          : [{ headers: {}, body: message.body }, options],
      ),
  },
  {
    promise: 'delays are ignored',
    noticedBy: [
      'delays',
      'delayed messages are delivered at their times, not earlier, in order of time',
    ],
    breaks: (sound) =>
      withPublish(sound, (message, options) => [message, without(options, 'delayMs')]),
  },
  {
    promise: 'points of time are ignored',
    noticedBy: [
      'delays',
      'a message for a past time is delivered at once, one for a future time at that time',
    ],
    breaks: (sound) =>
      withPublish(sound, (message, options) => [message, without(options, 'deliverAt')]),
  },
  {
    promise: 'some messages are stored twice',
    noticedBy: [
      'publishing',
      '10 publishers and 10 subscribers of one group in parallel lose no message and handle each once',
    ],
    breaks(sound) {
      let count = 0;
      return {
        async publish(topic, message, options) {
          if (++count % 7 === 0) await sound.publish(topic, message, options);
          return sound.publish(topic, message, options);
        },
      };
    },
  },
  {
    promise: 'ids deduplicate the receipts and not the messages',
    noticedBy: ['publishing', 'parallel publishes with one id add one message'],
    breaks(sound) {
      const known = new Set<string>();
      return {
        async publish(topic, message, options = {}) {
          const { dedupId: id } = options;
          const duplicate = id !== undefined && known.has(id);
          if (id !== undefined) known.add(id);
          const receipt = await sound.publish(topic, message, without(options, 'dedupId'));
          return { ...receipt, duplicate };
        },
      };
    },
  },
  {
    promise: 'maxLength is ignored',
    noticedBy: ['publishing', 'maxLength trims the topic to about this length'],
    breaks: (sound) =>
      withPublish(sound, (message, options) => [message, without(options, 'maxLength')]),
  },
  {
    promise: 'batches are stored in the wrong order',
    noticedBy: ['publishing', 'a batch is stored in order, with one receipt each'],
    breaks: (sound) => ({
      publishBatch: (topic, messages, options) =>
        sound.publishBatch(topic, [...messages].reverse(), options),
    }),
  },
  {
    promise: 'every delivery is the first attempt',
    noticedBy: ['retries', 'a message whose handler fails twice is handled at the third attempt'],
    breaks: (sound) => withDeliveries(sound, () => ({ attempt: 1 })),
  },
  {
    promise: 'a missed deadline is no attempt',
    noticedBy: [
      'attempts',
      'a missed deadline is an attempt: after the last one the message is dead-lettered',
    ],
    breaks: (sound) => withOptions(sound, (options) => without(options, 'retry')),
  },
  {
    promise: 'the delay of a nack is ignored',
    noticedBy: ['retries', 'a nack with a delay is redelivered after the delay, not earlier'],
    breaks: (sound) =>
      withDeliveries(sound, (delivery) => ({ nack: () => delivery.nack({ delayMs: 0 }) })),
  },
  {
    promise: 'extend succeeds and extends nothing',
    noticedBy: ['retries', 'extend moves the deadline for long work'],
    breaks: (sound) => withDeliveries(sound, () => ({ extend: async () => {} })),
  },
  {
    promise: 'late settlements succeed',
    noticedBy: [
      'retries',
      'a message that is neither settled nor extended by its deadline is redelivered; its late ack is refused',
    ],
    breaks: (sound) =>
      withDeliveries(sound, (delivery) => ({ ack: () => delivery.ack().catch(() => {}) })),
  },
  {
    promise: 'settling twice is nothing',
    noticedBy: ['retries', 'a second settlement of any kind is ALREADY_SETTLED'],
    breaks: (sound) =>
      withDeliveries(sound, (delivery) => ({ nack: () => delivery.nack().catch(() => {}) })),
  },
  {
    promise: 'handler errors are not reported',
    noticedBy: [
      'retries',
      'handler errors are reported, and a failing member does not stop the other members',
    ],
    breaks: (sound) => ({
      on: (event, listener) => (event === 'handlerError' ? () => {} : sound.on(event, listener)),
    }),
  },
  {
    promise: 'the bound on messages in flight is ignored',
    noticedBy: ['flow', 'maxInFlight is a hard bound, and other consumers get the rest'],
    breaks: (sound) => withOptions(sound, (options) => without(options, 'maxInFlight')),
  },
  {
    promise: 'the bound on messages in flight holds for each topic alone',
    noticedBy: [
      'flow',
      'maxInFlight bounds a subscriber with wildcards over all its topics together',
    ],
    breaks: (sound) =>
      withOptions(sound, (options) => ({
        ...options,
        maxInFlight: 12 * (options.maxInFlight ?? 1),
      })),
  },
  {
    promise: 'handlers run one at a time',
    noticedBy: ['flow', 'as many handlers run at once as `concurrency` says, and no more'],
    breaks: (sound) => withOptions(sound, (options) => without(options, 'concurrency')),
  },
  {
    promise: 'order by key is ignored',
    noticedBy: [
      'order',
      'by key: each of 16 keys in order with several subscribers, retries included, keys in parallel',
    ],
    breaks: (sound) => withOptions(sound, (options) => without(options, 'ordered')),
  },
  {
    promise: 'strict order is ignored',
    noticedBy: ['order', 'strict: one at a time, no message overtakes one that is retried'],
    breaks: (sound) => withOptions(sound, (options) => without(options, 'ordered')),
  },
  {
    promise: 'a new group always begins with new messages',
    noticedBy: ['groups', 'a new group begins with new messages, or with the earliest'],
    breaks: (sound) => withOptions(sound, (options) => without(options, 'from')),
  },
  {
    promise: 'subscribers without a group share messages',
    noticedBy: [
      'groups',
      'without a group every subscriber gets every message, with its own retries',
    ],
    breaks: (sound) => withOptions(sound, (options) => ({ group: 'all', ...options })),
  },
  {
    promise: 'names of group and topic meet',
    noticedBy: ['neighbours', 'groups and topics whose joined names are equal stay apart'],
    breaks: (sound) => ({
      subscribe: subscribing((topic, handler, options) =>
        sound.subscribe(topic.replace(/[:|]/g, '-'), handler, options),
      ),
      publish: (topic, message, options) =>
        sound.publish(topic.replace(/[:|]/g, '-'), message, options),
    }),
  },
  {
    promise: 'deleteTopic deletes nothing',
    noticedBy: ['groups', 'deleteTopic deletes a topic and its groups, and keeps its dead letters'],
    breaks: () => ({ deleteTopic: async () => {} }),
  },
  {
    promise: 'a deleted topic is made again under a wildcard subscriber',
    noticedBy: [
      'neighbours',
      'a topic deleted under a subscriber with wildcards stays deleted, and is found when it is created again',
    ],
    breaks: (sound) => ({
      async deleteTopic(topic) {
        await sound.deleteTopic(topic);
        await sound.publish(topic, { headers: {}, body: Buffer.from('back') });
      },
    }),
  },
  {
    promise: 'replay moves nothing',
    noticedBy: [
      'replaying',
      'replay from the earliest, an id, a time and new, while a subscriber reads',
    ],
    breaks: () => ({ replay: async () => {} }),
  },
  {
    promise: 'redrive sends dead letters to every group',
    noticedBy: [
      'dead letters',
      'redrive publishes dead letters again, only for the group that could not handle them',
    ],
    breaks: (sound) => ({
      async redrive(topic, options) {
        const moved = await sound.redrive(topic, options);
        for (let i = 0; i < moved; i++) {
          await sound.publish(topic, { headers: {}, body: Buffer.from('again') });
        }
        return moved;
      },
    }),
  },
  {
    promise: 'replies lose their headers',
    noticedBy: [
      'requests',
      'a request gets its reply with unchanged headers and bytes, from another process too',
    ],
    breaks: (sound) => ({
      async request(topic, message, options) {
        const { body } = await sound.request(topic, message, options);
        return new Received({ headers: {}, body }, { topic });
      },
    }),
  },
  {
    promise: 'the body of a message is read after the call',
    noticedBy: [
      'arguments',
      'the broker stores the bytes and headers of the call, whatever the caller writes into them later',
    ],
    breaks: (sound) => ({
      async publish(topic, message, options) {
        await null;
        return sound.publish(topic, message, options);
      },
    }),
  },
  {
    promise: 'misspelt options are ignored',
    noticedBy: ['arguments', 'a misspelt option is refused with the nearest right name'],
    breaks: (sound) =>
      withOptions(sound, (options) => without(options, 'concurency' as keyof SubscribeOptions)),
  },
  {
    promise: 'fractions of what is counted are rounded',
    noticedBy: [
      'arguments',
      'numbers out of range, fractions of counts, and other types are refused at every call',
    ],
    breaks: (sound) =>
      withOptions(sound, (options) =>
        options.maxInFlight === 2.5 ? { ...options, maxInFlight: 2 } : options,
      ),
  },
  {
    promise: 'unsubscribe does not wait for handlers',
    noticedBy: ['closing', 'disconnect lets running handlers finish and settles them'],
    breaks: (sound) => ({ disconnect: async () => void sound.disconnect() }),
  },
  {
    promise: 'unsubscribe inside a handler waits for the handler',
    noticedBy: [
      'closing',
      'unsubscribe inside a handler does not wait for itself, and its message is settled',
    ],
    breaks: (sound) => ({
      subscribe: subscribing(async (topic, handler, options) => {
        const subscriber = await sound.subscribe(topic, handler, options);
        const unsubscribe = async () => {
          await subscriber.unsubscribe();
          while (subscriber.inFlight > 0) await new Promise((resolve) => setTimeout(resolve, 50));
        };
        return over(subscriber, { unsubscribe });
      }),
    }),
  },
  {
    promise: 'closing takes eleven times its limit',
    noticedBy: ['closing', 'closing takes drainTimeoutMs and no longer, whatever its handlers do'],
    breaks: (sound) => ({
      async disconnect() {
        await sound.disconnect();
        await new Promise((resolve) => setTimeout(resolve, 10 * sound.options.drainTimeoutMs));
      },
    }),
  },
  {
    promise: 'an aborted signal is ignored',
    noticedBy: ['refusals', 'a call with an aborted signal is refused before it has any effect'],
    breaks: (sound) =>
      withPublish(sound, (message, options) => [message, without(options, 'signal')]),
  },
  {
    promise: 'lost groups are not reported',
    noticedBy: ['outages', 'groups that the server has lost are created again and reported'],
    breaks: (sound) => ({
      on: (event, listener) => (event === 'groupLost' ? () => {} : sound.on(event, listener)),
    }),
  },
];
