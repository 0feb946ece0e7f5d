/**
 * Messages for later: after a delay, or at a point of time. With `file:` they outlive the process.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBroker } from 'rivulet';

const directory = await mkdtemp(join(tmpdir(), 'rivulet-example-'));

const publisher = await openBroker(`file:${directory}`);
await publisher.publish('reminders', { body: 'third' }, { delayMs: 600 });
await publisher.publish('reminders', { body: 'second' }, { deliverAt: new Date(Date.now() + 300) });
await publisher.publish('reminders', { body: 'first' });
// A dedupId makes a publish safe to repeat: the second one adds nothing.
const again = { delayMs: 300, dedupId: 'reminder-17' };
console.log((await publisher.publish('reminders', { body: 'once' }, again)).duplicate);
console.log((await publisher.publish('reminders', { body: 'once' }, again)).duplicate);
await publisher.disconnect();

// Another process, another day. A loop is left when all four have come.
const reader = await openBroker(`file:${directory}`);
let count = 0;
for await (const delivery of await reader.subscribe('reminders', {
  group: 'mailer',
  from: 'earliest',
})) {
  console.log(delivery.text());
  await delivery.ack();
  if (++count === 4) break;
}
await reader.disconnect();
await rm(directory, { recursive: true });
