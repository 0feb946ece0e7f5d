/**
 * A handler that throws gets the message again, later and later, without holding up the others; after
 * the last attempt it goes to the dead letter, with the reason, and can be sent back from there.
 */
import { openBroker } from 'rivulet';

const broker = await openBroker('memory:');
const message = (text) => ({ headers: {}, body: Buffer.from(text) });
let broken = true;
const settled = [];

await broker.subscribe(
  'payments',
  ({ message, attempt }) => {
    const text = String(message.body);
    if (text === 'of Mr. Poison' && broken) {
      console.log(`attempt ${attempt} fails`);
      throw new Error('the account is closed');
    }
    settled.push(text);
  },
  {
    group: 'bank',
    retry: { attempts: 3, backoff: { minMs: 20, maxMs: 1000, factor: 2, jitter: false } },
  },
);

const dead = new Promise((resolve) => broker.on('deadLettered', resolve));
await broker.publish('payments', message('of Mr. Poison'));
await broker.publish('payments', message('of Ms. Good'));
console.log(`dead letter: ${(await dead).reason}`);
console.log(`meanwhile handled: ${settled.join(', ')}`);

// The dead letters are a topic like any other: origin, reason and attempts are headers.
await new Promise((resolve) => {
  broker.subscribe(
    'payments.dead',
    ({ message }) => {
      const { 'rivulet-dead-topic': topic, 'rivulet-dead-attempts': attempts } = message.headers;
      console.log(`${message.body}, from ${topic}, after ${attempts} attempts`);
      resolve();
    },
    { from: 'earliest', group: 'support' },
  );
});

broken = false;
console.log(`sent back: ${await broker.redrive('payments')}`);
while (settled.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
console.log(`in the end handled: ${settled.join(', ')}`);
await broker.disconnect();
