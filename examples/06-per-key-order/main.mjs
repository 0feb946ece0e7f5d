/**
 * Order per key: messages of one key one after the other, retries included; keys beside each other.
 */
import { openBroker } from 'rivulet';

const broker = await openBroker('memory:');
const seen = { ann: '', bob: '', cy: '' };
let running = 0;
let most = 0;
let count = 0;

await broker.subscribe(
  'accounts',
  async ({ message, attempt }) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, 3));
    running--;
    // The third of each key fails once: what comes after it waits for it, other keys do not.
    if (String(message.body) === '3' && attempt === 1) throw new Error('once');
    seen[message.key] += message.body;
    count++;
  },
  {
    group: 'ledger',
    ordered: 'by-key',
    concurrency: 3,
    maxInFlight: 30,
    retry: { attempts: 5, backoff: { minMs: 10, jitter: false } },
  },
);

for (const text of ['1', '2', '3', '4', '5']) {
  for (const key of Object.keys(seen)) {
    await broker.publish('accounts', { headers: {}, key, body: Buffer.from(text) });
  }
}
while (count < 15) await new Promise((resolve) => setTimeout(resolve, 5));
for (const [key, numbers] of Object.entries(seen)) console.log(`${key}: ${numbers}`);
console.log(`keys handled beside each other: ${most > 1}`);
await broker.disconnect();
