/**
 * A process with an embedded broker, to be killed: publishes, takes work and keeps it.
 */
import { openBroker } from '../../../src/broker/open-broker.ts';

const [url = ''] = process.argv.slice(2);
const broker = await openBroker(url);
const body = (text: string) => ({ headers: {}, body: Buffer.from(text) });
for (let i = 0; i < 20; i++) await broker.publish('work', body(String(i)));
await broker.publish('work', body('later'), { delayMs: 300 });
let held = 0;
await broker.subscribe(
  'work',
  () => {
    if (++held === 5) process.send?.('holding');
  },
  {
    group: 'g',
    from: 'earliest',
    ack: 'manual',
    concurrency: 5,
    maxInFlight: 5,
    ackWaitMs: 3_600_000,
  },
);
