/**
 * Messages for later: after a delay, or at a point of time. With `file:` they outlive the process.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBroker } from 'rivulet';

const directory = await mkdtemp(join(tmpdir(), 'rivulet-example-'));
const message = (text) => ({ headers: {}, body: Buffer.from(text) });

const publisher = await openBroker(`file:${directory}`);
await publisher.publish('reminders', message('third'), { delayMs: 600 });
await publisher.publish('reminders', message('second'), { deliverAt: new Date(Date.now() + 300) });
await publisher.publish('reminders', message('first'));
// An id makes a publish safe to repeat: the second one adds nothing.
const again = { delayMs: 300, id: 'reminder-17' };
console.log((await publisher.publish('reminders', message('once'), again)).duplicate);
console.log((await publisher.publish('reminders', message('once'), again)).duplicate);
await publisher.disconnect();

// Another process, another day.
const reader = await openBroker(`file:${directory}`);
let count = 0;
await new Promise((resolve) => {
  reader.subscribe(
    'reminders',
    ({ message }) => {
      console.log(String(message.body));
      if (++count === 4) resolve();
    },
    { group: 'mailer', from: 'earliest' },
  );
});
await reader.disconnect();
await rm(directory, { recursive: true });
