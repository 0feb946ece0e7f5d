/**
 * A chaos run: publishers, ordered and plain groups, retries, delays, requests, wildcards and
 * deletions, against cuts, stalls and kills; then the checker over what happened.
 *
 * A run is bounded, and its seed decides which faults come when. The wall clock decides the rest, so
 * a seed repeats the faults and not every interleaving.
 */
import type { Broker, Delivery, Subscriber } from '../../src/broker/broker.ts';
import { quiet, text } from '../../src/conformance/case-context.ts';
import type { Fixture } from '../../src/conformance/index.ts';
import { Random } from '../../src/util/random.ts';
import { type GroupFacts, History } from './history.ts';

export interface ChaosSetup {
  readonly fixture: Fixture;
  readonly seed: number;
  readonly seconds: number;
  /** The broker counts a delivery whose reply was lost with its connection (ARCHITECTURE.md). */
  readonly countsLostReplies?: boolean;
}

const MOST_IN_FLIGHT = 6;
const RECOVERY_MS = 45_000;
/** The warning of a consumer that could not settle a message. */
const UNSETTLED = /^message (\S+) of (\S+) could not be settled/;

/** Returns every breach of the contract, and how much happened. */
export async function chaos({ fixture, seed, seconds, countsLostReplies }: ChaosSetup) {
  const random = new Random(seed);
  const history = new History();
  const base = `chaos.s${seed}`;
  const topics = ['a', 'b', 'c'].map((each) => `${base}.${each}`);
  const behind = await fixture.behindProxy?.();
  const brokers: Broker[] = [];
  const open = async () => {
    const options = { publishTimeoutMs: 30_000 };
    const broker = await (behind ?? fixture).open(options);
    brokers.push(broker);
    return broker;
  };
  const groups: GroupFacts[] = [
    { name: 'plain', ordered: false, topics },
    { name: 'strict', ordered: true, topics: [topics[0] as string] },
    { name: 'key', ordered: true, topics: [topics[1] as string] },
    { name: 'wild', ordered: false, topics },
  ];
  const handle = (group: string, consumer: string) => async (delivery: Delivery) => {
    const name = text(delivery);
    const { topic, attempt, id } = delivery;
    history.handOvers.push({ group, topic, text: name, attempt, consumer, id });
    if (random.chance(0.2)) await quiet(random.below(20));
    if (attempt < 3 && random.chance(0.1)) throw new Error('not yet');
    history.handled.push({ group, topic, text: name });
  };
  const retry = { attempts: 50, backoff: { minMs: 5, maxMs: 60, jitter: true } };
  const shared = { ackWaitMs: 1500, retry, maxInFlight: MOST_IN_FLIGHT, from: 'earliest' } as const;
  try {
    const [publisher, first, second] = [await open(), await open(), await open()] as const;
    for (const topic of topics)
      await publisher.publish(topic, { headers: {}, body: Buffer.from(`${topic} start`) });
    const subscribers: Subscriber[] = [];
    for (const [consumer, broker] of [
      ['first', first],
      ['second', second],
    ] as const) {
      broker.on('warning', ({ error }) => {
        const [, id, topic] = UNSETTLED.exec(error.message) ?? [];
        if (id !== undefined) history.unsettled.add(`${consumer} ${topic} ${id}`);
      });
      for (const topic of topics) {
        subscribers.push(
          await broker.subscribe(topic, handle('plain', consumer), {
            ...shared,
            group: 'plain',
            concurrency: 3,
          }),
        );
      }
      const strict = { ...shared, group: 'strict', ordered: 'strict' } as const;
      subscribers.push(
        await broker.subscribe(topics[0] as string, handle('strict', consumer), strict),
      );
      const byKey = { ...shared, group: 'key', ordered: 'key', concurrency: 3 } as const;
      subscribers.push(await broker.subscribe(topics[1] as string, handle('key', consumer), byKey));
    }
    subscribers.push(
      await first.subscribe(`${base}.*`, handle('wild', 'first'), { ...shared, group: 'wild' }),
    );
    await first.respond(`${base}.echo`, (request) => request);
    const end = performance.now() + seconds * 1000;
    const publishing = topics.map(async (topic, index) => {
      const waiting = new Set<Promise<unknown>>();
      for (let n = 0; performance.now() < end; n++) {
        const name = `${index}-${n}`;
        // Of the ordered topics all have one key: their order is that of the calls.
        const delayed = index === 2 && n % 10 === 9;
        history.publish(topic, name);
        const message = { headers: { n: `${n}` }, body: Buffer.from(name), key: 'k' };
        const published = publisher
          .publish(topic, message, {
            ...(delayed ? { delayMs: 200 } : {}),
            ...once(publisher, name),
          })
          .then(() => history.acknowledged.add(name))
          .catch((error) => history.breaches.push(`publish of ${name}: ${error.message}`))
          .finally(() => waiting.delete(published));
        waiting.add(published);
        for (const subscriber of subscribers) {
          const { inFlight } = subscriber;
          if (inFlight > MOST_IN_FLIGHT) history.breaches.push(`${inFlight} in flight`);
        }
        await quiet(random.below(12));
      }
      await Promise.all(waiting);
    });
    const asking = (async () => {
      while (performance.now() < end) {
        const asked = { headers: {}, body: Buffer.from('ask') };
        // In an outage a request fails; one that is answered has the right answer.
        const reply = await second
          .request(`${base}.echo`, asked, { timeoutMs: 1000 })
          .catch(() => null);
        if (reply !== null && text(reply) !== 'ask') history.breaches.push('a wrong reply');
        await quiet(25);
      }
    })();
    let faults = 0;
    const breaking = (async () => {
      while (performance.now() < end) {
        await quiet(150 + random.below(700));
        faults++;
        await fault(random, fixture, behind?.proxy ?? null, second, `${base}.x${random.below(3)}`);
      }
      if (behind !== undefined) behind.proxy.mode = 'pass';
    })();
    await Promise.all([...publishing, asking, breaking]);
    const last = performance.now() + RECOVERY_MS;
    while (performance.now() < last && groups.some((group) => history.missing(group).length > 0)) {
      await quiet(100);
    }
    const uncounted = countsLostReplies === true ? faults : 0;
    return { breaches: history.check(groups, uncounted), handOvers: history.handOvers.length };
  } finally {
    if (behind !== undefined) behind.proxy.mode = 'pass';
    await Promise.all(brokers.map((broker) => broker.disconnect()));
    await behind?.proxy[Symbol.asyncDispose]();
  }
}

/** Where a publish that is sent again may be stored twice: an id that stores it once. */
function once({ capabilities }: Broker, name: string): { dedupId?: string } {
  const { retriedPublish, dedup } = capabilities;
  return retriedPublish === 'once' || dedup === null ? {} : { dedupId: name };
}

async function fault(
  random: Random,
  fixture: Fixture,
  proxy: { mode: string; cut(): void } | null,
  broker: Broker,
  topic: string,
): Promise<void> {
  const kind = random.below(10);
  if (kind < 2) {
    // A topic that comes and goes under the subscriber with wildcards.
    await broker.publish(topic, { headers: {}, body: Buffer.from('passing') }).catch(() => {});
    await broker.deleteTopic(topic).catch(() => {});
  } else if (proxy === null) {
    return;
  } else if (kind < 6) {
    proxy.cut();
  } else if (kind < 8) {
    proxy.mode = kind === 6 ? 'refuse' : 'black hole';
    if (kind === 6) proxy.cut();
    await quiet(200 + random.below(500));
    proxy.mode = 'pass';
    proxy.cut();
  } else if (kind === 8 && fixture.kill !== undefined) {
    await fixture.kill();
    await quiet(random.below(300));
    await fixture.start?.();
  }
}
