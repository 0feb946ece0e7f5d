/**
 * Faults of connections: cut, refused, half open, silent, slow.
 *
 * No message that was acknowledged to a publisher is lost; subscribers and requests recover by themselves
 * within a bound; what cannot be done fails in time, with an error that says why.
 */
import assert from 'node:assert/strict';
import type { Broker } from '../../broker/broker.ts';
import {
  type Case,
  type CaseContext,
  collect,
  eventually,
  message,
  need,
  nextEvent,
  numbers,
  publishAll,
  quiet,
  Seen,
  sorted,
  text,
} from '../case-context.ts';
import type { FaultyProxy, ProxyMode } from '../faulty-proxy.ts';
import { allArrive, publishSteadily, RECOVERY_MS, storedOnce } from '../steady-load.ts';

interface Proxied {
  readonly proxy: FaultyProxy;
  /** A broker that reaches its server through the proxy. */
  open(options?: object): Promise<Broker>;
}

/** Runs a case with brokers behind a proxy, which passes everything again while they disconnect. */
function throughProxy(run: (context: CaseContext, through: Proxied) => Promise<void>): Case['run'] {
  return async (context) => {
    const behind = await context.fixture.behindProxy?.();
    if (behind === undefined) throw new Error('the fixture has no proxy');
    await using proxy = behind.proxy;
    try {
      await run(context, {
        proxy,
        open: async (options) => context.keep(await behind.open(options)),
      });
    } finally {
      proxy.mode = 'pass';
      await context.end();
    }
  };
}

function throughFault(mode: ProxyMode | 'reset', holdMs: number): Case {
  return {
    name: `${mode}: publisher and subscriber recover by themselves, no acknowledged message is lost`,
    needs: need('persistent'),
    uses: ['behindProxy'],
    timeoutMs: 90_000,
    run: throughProxy(async (context, { proxy, open }) => {
      const topic = context.topic();
      const [publisher, subscriber] = await Promise.all([
        open({ publishTimeoutMs: 20_000 }),
        open(),
      ]);
      const { seen } = await collect(subscriber, topic, {
        group: 'g',
        concurrency: 5,
        ackWaitMs: 2000,
      });
      const load = publishSteadily(publisher, topic);
      await seen.count(50);
      const connected = mode === 'reset' ? null : nextEvent(publisher, 'disconnected', 20_000);
      if (mode === 'reset') {
        for (let times = 0; times < 5; times++) {
          proxy.cut();
          await quiet(holdMs);
        }
      } else {
        proxy.mode = mode;
        if (mode === 'refuse') proxy.cut();
        await connected;
        await quiet(holdMs);
        proxy.mode = 'pass';
        // Connections that the fault has left open would never end.
        proxy.cut();
      }
      const before = seen.length;
      await seen.until((items) => items.length > before + 50, 'more after it', RECOVERY_MS);
      await load.stop();
      assert.deepEqual(load.failures, []);
      await allArrive(load.acknowledged, seen);
    }),
  };
}

export const connectionFaults: readonly Case[] = [
  throughFault('reset', 150),
  throughFault('refuse', 1500),
  throughFault('half open', 500),
  throughFault('black hole', 500),
  {
    name: 'connections cut while handlers run: each message is handled, none stays pending',
    needs: need('persistent'),
    uses: ['behindProxy'],
    timeoutMs: 90_000,
    run: throughProxy(async (context, { proxy, open }) => {
      const topic = context.topic();
      const direct = await context.open();
      const subscriber = await open();
      await publishAll(direct, topic, numbers(0, 200));
      const seen = new Seen<string>();
      await subscriber.subscribe(
        topic,
        async (delivery) => {
          await quiet(10);
          if (seen.length % 20 === 0) proxy.cut();
          seen.add(text(delivery));
        },
        { group: 'g', from: 'earliest', concurrency: 4, ackWaitMs: 1500 },
      );
      await seen.until((items) => new Set(items).size === 200, 'all of them', RECOVERY_MS);
      if (direct.capabilities.pendingList === 'entries') {
        await eventually(
          'nothing is pending',
          async () => (await direct.pending(topic, 'g')).length === 0,
        );
      }
    }),
  },
  {
    name: 'latency changes nothing but time',
    uses: ['behindProxy'],
    run: throughProxy(async (context, { proxy, open }) => {
      const topic = context.topic();
      const broker = await open();
      const { seen } = await collect(broker, topic, { group: 'g', concurrency: 10 });
      proxy.latencyMs = 60;
      await Promise.all(numbers(0, 50).map((each) => broker.publish(topic, message(each))));
      assert.deepEqual(sorted(await seen.count(50)), numbers(0, 50));
    }),
  },
  {
    name: 'a publish waits through an outage up to its bound, then fails clearly',
    uses: ['behindProxy'],
    run: throughProxy(async (context, { proxy, open }) => {
      const broker = await open({ publishTimeoutMs: 1000, maxPendingPublishes: 3 });
      const topic = context.topic();
      await broker.publish(topic, message('before'));
      const gone = nextEvent(broker, 'disconnected');
      await shutOff(proxy, broker, topic);
      await gone;
      const began = performance.now();
      await assert.rejects(broker.publish(topic, message('x')), { code: 'NOT_CONNECTED' });
      const waited = performance.now() - began;
      assert.ok(waited >= 990 && waited < 20_000, `${waited}`);
      const codes = await Promise.all(
        numbers(0, 10).map((each) =>
          broker.publish(topic, message(each)).then(
            () => 'stored',
            ({ code }) => code,
          ),
        ),
      );
      assert.equal(codes.filter((code) => code === 'LIMIT_EXCEEDED').length, 7);
      const controller = new AbortController();
      const aborted = broker.publish(topic, message('x'), { signal: controller.signal });
      controller.abort();
      await assert.rejects(aborted, { code: 'ABORTED' });
      const back = nextEvent(broker, 'connected', RECOVERY_MS);
      proxy.mode = 'pass';
      await back;
      await broker.publish(topic, message('after'));
    }),
  },
  {
    name: 'connections cut during requests and calls: each ends with an error that says it may have run',
    needs: need('requestReply'),
    uses: ['behindProxy'],
    run: throughProxy(async (context, { proxy, open }) => {
      const server = await context.open();
      const client = await open();
      const topic = context.topic();
      const begun = new Seen<string>();
      await server.respond(topic, (request) => {
        begun.add(text(request));
        if (text(request) === 'answer') return message('answered');
        if (text(request) === 'hang') return new Promise(() => {});
        return (async function* () {
          for (let n = 0; ; n++) {
            yield message(String(n));
            await quiet(10);
          }
        })();
      });
      const hanging = assert.rejects(
        client.request(topic, message('hang'), { timeoutMs: 20_000 }),
        { sent: 'maybe' },
      );
      const call = client.call(topic, message('stream'));
      await call.messages.next();
      await begun.count(2);
      const began = performance.now();
      proxy.cut();
      await hanging;
      await assert.rejects(
        (async () => {
          for await (const _ of call.messages);
        })(),
        { sent: 'maybe' },
      );
      assert.ok(performance.now() - began < 10_000);
      await eventually('requests are answered again', async () => {
        const answer = await client
          .request(topic, message('answer'), { timeoutMs: 1000 })
          .catch(() => null);
        return answer !== null && text(answer) === 'answered';
      });
    }),
  },
  {
    name: 'a server that cannot be reached: connect fails in time and clearly',
    uses: ['behindProxy'],
    run: throughProxy(async (_, { proxy, open }) => {
      proxy.mode = 'black hole';
      const began = performance.now();
      await assert.rejects(open({ connectTimeoutMs: 1000 }), { code: 'CONNECTION_FAILED' });
      proxy.mode = 'refuse';
      await assert.rejects(open({ connectTimeoutMs: 1000 }), { code: 'CONNECTION_FAILED' });
      assert.ok(performance.now() - began < 30_000);
    }),
  },
  {
    name: 'many publishes whose connection is cut are each stored once',
    needs: (claimed) =>
      need('persistent')(claimed) ??
      (claimed.retriedPublish === 'once' ? null : 'retriedPublish: at-least-once'),
    uses: ['behindProxy'],
    timeoutMs: 120_000,
    run: throughProxy(async (context, { proxy, open }) => {
      const topic = context.topic();
      const direct = await context.open();
      const publisher = await open({ publishTimeoutMs: 60_000, maxPendingPublishes: 20_000 });
      await publisher.publish(topic, message('first'));
      const texts = numbers(0, 8000);
      const publishes = texts.map((each) => publisher.publish(topic, message(each)));
      await Promise.race(publishes);
      for (let cuts = 0; cuts < 3; cuts++) {
        await quiet(60);
        proxy.cut();
      }
      await Promise.all(publishes);
      await storedOnce(direct, topic, texts);
    }),
  },
  {
    name: 'disconnect during an outage ends soon',
    uses: ['behindProxy'],
    run: throughProxy(async (context, { proxy, open }) => {
      const broker = await open({ drainTimeoutMs: 500 });
      const topic = context.topic();
      const options = broker.capabilities.strictOrder ? { ordered: 'strict' as const } : {};
      await collect(broker, topic, { group: 'g' });
      await collect(broker, topic, { group: 'ordered', ...options });
      await collect(broker, topic, {});
      const lost = nextEvent(broker, 'disconnected', RECOVERY_MS);
      await shutOff(proxy, broker, topic);
      await lost;
      let hasEnded = false;
      broker.disconnect().finally(() => {
        hasEnded = true;
      });
      await eventually('disconnect has ended', () => hasEnded, 10_000);
    }),
  },
];

/** New connections are refused and the old ones are cut. */
async function shutOff(proxy: FaultyProxy, broker: Broker, topic: string): Promise<void> {
  await broker.publish(topic, message('last'));
  proxy.mode = 'refuse';
  proxy.cut();
}
