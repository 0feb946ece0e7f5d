/**
 * The same service on every broker: only the URL changes.
 *
 *   npm run example 07
 *   MICRO_BROKER=file:./data npm run example 07
 *   MICRO_BROKER=rivulet://localhost:7488 ...    a `micro server`
 *   MICRO_BROKER=redis://localhost:6379 ...      npm install @rivulet/redis
 *   MICRO_BROKER=amqp://localhost ...            npm install @rivulet/rabbitmq
 *   MICRO_BROKER=nats://localhost ...            npm install @rivulet/nats
 *
 * What a broker cannot do it refuses at the call; `broker.capabilities` says so beforehand.
 */
import { openBroker } from 'rivulet';

// Disconnects at the end of the block, whatever happens in it.
{
  await using broker = await openBroker(process.env.MICRO_BROKER ?? 'memory:');
  // A topic of this run alone, so that it can run again on a broker that remembers.
  const topic = `greetings.run${process.pid}`;
  const handled: string[] = [];
  await broker.subscribe(
    topic,
    async (delivery) => {
      if (delivery.attempt === 1) throw new Error('could not hear that');
      handled.push(`${delivery.text()} (attempt ${delivery.attempt})`);
    },
    { group: 'listeners', retry: { attempts: 3, backoff: { minMs: 20, maxMs: 50 } } },
  );
  await broker.publish(topic, { headers: { language: 'en' }, body: 'hello' });
  while (handled.length < 1) await new Promise((resolve) => setTimeout(resolve, 5));
  console.log(handled.join('\n'));

  await broker.respond(`${topic}.time`, () => ({ body: 'noon' }));
  const reply = await broker.request(`${topic}.time`, { body: '?' });
  console.log(`it is ${reply.text()}`);
}
