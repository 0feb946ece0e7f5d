/** Bad input: refused with one clear code, without any effect. */
import assert from 'node:assert/strict';
import { type Case, collect, message } from '../case-context.ts';

export const refusals: readonly Case[] = [
  {
    name: 'illegal topics and groups',
    async run(context) {
      const broker = await context.open();
      for (const topic of ['', 'a b', 'a..b', '.a', 'a.*', 'a.>', 'x'.repeat(300)]) {
        await assert.rejects(broker.publish(topic, message('x')), { code: 'TOPIC_ILLEGAL' }, topic);
      }
      for (const topic of ['', 'a b', 'a.>.b']) {
        await assert.rejects(
          broker.subscribe(topic, () => {}),
          { code: 'TOPIC_ILLEGAL' },
          topic,
        );
      }
      const topic = context.topic();
      for (const group of ['', 'a b', '*']) {
        await assert.rejects(
          broker.subscribe(topic, () => {}, { group }),
          { code: 'INVALID_ARGUMENT' },
          group,
        );
      }
    },
  },
  {
    name: 'a body over the limit, of the wrong kind, headers that are no strings',
    async run(context) {
      const broker = await context.open({ maxBodyBytes: 1000 });
      const topic = context.topic();
      const { seen } = await collect(broker, topic, { group: 'g' });
      const wrong = [
        [{ headers: {}, body: new Uint8Array(1001) }, 'BODY_TOO_LARGE'],
        // Bytes are counted, not characters.
        [{ body: 'ü'.repeat(501) }, 'BODY_TOO_LARGE'],
        [{ body: 5 as unknown as string }, 'INVALID_ARGUMENT'],
        [{ headers: { n: 1 as unknown as string }, body: new Uint8Array() }, 'INVALID_ARGUMENT'],
      ] as const;
      for (const [each, code] of wrong) await assert.rejects(broker.publish(topic, each), { code });
      await assert.rejects(broker.publishBatch(topic, [message('good'), wrong[0][0]]), {
        code: 'BODY_TOO_LARGE',
      });
      await broker.publish(topic, { headers: {}, body: new Uint8Array(1000).fill(120) });
      assert.equal((await seen.count(1))[0]?.length, 1000);
    },
  },
  {
    name: 'options with impossible values',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const invalid = { code: 'INVALID_ARGUMENT' };
      const subscribe = (options: object) => broker.subscribe(topic, () => {}, options);
      await assert.rejects(subscribe({ concurrency: 0 }), invalid);
      await assert.rejects(subscribe({ maxInFlight: Number.NaN }), invalid);
      await assert.rejects(subscribe({ ackWaitMs: -1 }), invalid);
      await assert.rejects(subscribe({ ordered: 'strict', concurrency: 2 }), invalid);
      const publish = (options: object) => broker.publish(topic, message('x'), options);
      await assert.rejects(publish({ delayMs: -1 }), invalid);
      await assert.rejects(publish({ delayMs: 1, deliverAt: new Date() }), invalid);
      await assert.rejects(publish({ deliverAt: new Date('never') }), invalid);
      assert.throws(() => broker.init({ publishTimeoutMs: 1 }), invalid);
    },
  },
  {
    name: 'an option without its capability is refused at the call',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const { capabilities } = broker;
      const unsupported = { code: 'UNSUPPORTED' };
      if (capabilities.dedup === null) {
        await assert.rejects(broker.publish(topic, message('x'), { dedupId: '1' }), unsupported);
      }
      if (capabilities.delayedPublish === 'none') {
        await assert.rejects(broker.publish(topic, message('x'), { delayMs: 5 }), unsupported);
      }
      if (!capabilities.wildcards) {
        await assert.rejects(
          broker.subscribe('a.*', () => {}),
          unsupported,
        );
      }
      if (!capabilities.requestReply) {
        await assert.rejects(broker.request(topic, message('x')), unsupported);
      }
      if (!capabilities.replayById) {
        const from = { id: '1' };
        await assert.rejects(
          broker.subscribe(topic, () => {}, { from }),
          unsupported,
        );
      }
    },
  },
  {
    name: 'a call with an aborted signal is refused before it has any effect',
    async run(context) {
      const broker = await context.open();
      const topic = context.topic();
      const signal = AbortSignal.abort();
      const aborted = { code: 'ABORTED' };
      await assert.rejects(broker.publish(topic, message('x'), { signal }), aborted);
      await assert.rejects(
        broker.subscribe(topic, () => {}, { signal }),
        aborted,
      );
      if (!broker.capabilities.requestReply) return;
      await assert.rejects(
        broker.respond(topic, (request) => request, { signal }),
        aborted,
      );
    },
  },
];
