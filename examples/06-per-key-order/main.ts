/**
 * Order per key: messages of one key one after the other, retries included; keys beside each other.
 */
import { openBroker } from 'rivulet';

const broker = await openBroker('memory:');
const seen = new Map([
  ['ann', ''],
  ['bob', ''],
  ['cy', ''],
]);
let running = 0;
let most = 0;
let count = 0;

await broker.subscribe(
  'accounts',
  async (delivery) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, 3));
    running--;
    const { key = '' } = delivery.message;
    // The third of each key fails once: what comes after it waits for it, other keys do not.
    if (delivery.text() === '3' && delivery.attempt === 1) throw new Error('once');
    seen.set(key, `${seen.get(key)}${delivery.text()}`);
    count++;
  },
  {
    group: 'ledger',
    ordered: 'key',
    concurrency: 3,
    maxInFlight: 30,
    retry: { attempts: 5, backoff: { minMs: 10, jitter: false } },
  },
);

for (const body of ['1', '2', '3', '4', '5']) {
  for (const key of seen.keys()) await broker.publish('accounts', { key, body });
}
while (count < 15) await new Promise((resolve) => setTimeout(resolve, 5));
for (const [key, numbers] of seen) console.log(`${key}: ${numbers}`);
console.log(`keys handled beside each other: ${most > 1}`);
await broker.disconnect();
