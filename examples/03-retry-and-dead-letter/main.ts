/**
 * A handler that throws gets the message again, later and later, without holding up the others; after
 * the last attempt it goes to the dead letter, with the reason, and can be sent back from there.
 */
import { deadLetterHeaders, openBroker } from 'rivulet';

const broker = await openBroker('memory:');
let broken = true;
const settled: string[] = [];

await broker.subscribe(
  'payments',
  (delivery) => {
    const text = delivery.text();
    if (text === 'of Mr. Poison' && broken) {
      console.log(`attempt ${delivery.attempt} fails`);
      throw new Error('the account is closed');
    }
    settled.push(text);
  },
  {
    group: 'bank',
    retry: { attempts: 3, backoff: { minMs: 20, maxMs: 1000, factor: 2, jitter: false } },
  },
);

const dead = new Promise<{ reason: string }>((resolve) => broker.on('deadLettered', resolve));
await broker.publish('payments', { body: 'of Mr. Poison' });
await broker.publish('payments', { body: 'of Ms. Good' });
console.log(`dead letter: ${(await dead).reason}`);
console.log(`meanwhile handled: ${settled.join(', ')}`);

// The dead letters are a topic like any other: origin, reason and attempts are headers.
const letters = await broker.subscribe('payments.dead', { from: 'earliest', group: 'support' });
for await (const delivery of letters) {
  const { headers } = delivery.message;
  const [topic, attempts] = [headers[deadLetterHeaders.topic], headers[deadLetterHeaders.attempts]];
  console.log(`${delivery.text()}, from ${topic}, after ${attempts} attempts`);
  await delivery.ack();
  break;
}

broken = false;
console.log(`sent back: ${await broker.redrive('payments')}`);
while (settled.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
console.log(`in the end handled: ${settled.join(', ')}`);
await broker.disconnect();
