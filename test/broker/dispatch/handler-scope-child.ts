/**
 * A process that says whether its promises have hooks: `true` or `false` for each moment, a line each.
 * Not in the test's own process, because node:test hooks promises itself.
 */
import { executionAsyncId } from 'node:async_hooks';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { Seen } from '../../../src/conformance/case-context.ts';

/** Without a hook, what a promise calls has the id 0. */
function areHooked(): Promise<boolean> {
  return new Promise((resolve) => {
    setImmediate(() => Promise.resolve().then(() => resolve(executionAsyncId() !== 0)));
  });
}

const body = Buffer.from('x');
const broker = await openBroker('memory:');
const seen = new Seen<string>();
let release = () => {};
const released = new Promise<void>((resolve) => {
  release = resolve;
});
await broker.subscribe('plain', () => seen.add('plain'));
await broker.subscribe('slow', async () => {
  seen.add('slow');
  await released;
});
console.log(`before: ${await areHooked()}`);
for (let i = 0; i < 100; i++) await broker.publish('plain', { headers: {}, body });
await seen.count(100);
console.log(`after handlers without promises: ${await areHooked()}`);
await broker.publish('slow', { headers: {}, body });
await seen.count(101);
console.log(`while a handler waits: ${await areHooked()}`);
release();
await released;
console.log(`after it: ${await areHooked()}`);
await broker.disconnect();
