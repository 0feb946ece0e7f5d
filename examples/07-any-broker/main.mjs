/**
 * The same service on every broker: only the URL changes.
 *
 *   node examples/07-any-broker/main.mjs
 *   MICRO_BROKER=file:./data node examples/07-any-broker/main.mjs
 *   MICRO_BROKER=rivulet://localhost:7488 ...    a `micro server`
 *   MICRO_BROKER=redis://localhost:6379 ...      npm install @rivulet/redis
 *   MICRO_BROKER=amqp://localhost ...            npm install @rivulet/rabbitmq
 *   MICRO_BROKER=nats://localhost ...            npm install @rivulet/nats
 *
 * What a broker cannot do it refuses at the call; `broker.capabilities` says so beforehand.
 */
import { openBroker } from 'rivulet';

await withBroker(await openBroker(process.env.MICRO_BROKER ?? 'memory:'), async (broker) => {
  // A topic of this run alone, so that it can run again on a broker that remembers.
  const topic = `greetings.run${process.pid}`;
  const heard = [];
  await broker.subscribe(
    topic,
    async (delivery) => {
      if (delivery.attempt === 1) throw new Error('could not hear that');
      heard.push(`${delivery.message.body} (attempt ${delivery.attempt})`);
    },
    { group: 'listeners', retry: { attempts: 3, backoff: { minMs: 20, maxMs: 50 } } },
  );
  await broker.publish(topic, { headers: { language: 'en' }, body: Buffer.from('hello') });
  while (heard.length < 1) await new Promise((resolve) => setTimeout(resolve, 5));
  console.log(heard.join('\n'));

  await broker.respond(`${topic}.time`, () => ({ headers: {}, body: Buffer.from('noon') }));
  const reply = await broker.request(`${topic}.time`, { headers: {}, body: Buffer.from('?') });
  console.log(`it is ${Buffer.from(reply.body)}`);
});

/** Disconnects whatever happens; newer versions of Node can write `await using broker`. */
async function withBroker(broker, run) {
  try {
    await run(broker);
  } finally {
    await broker.disconnect();
  }
}
