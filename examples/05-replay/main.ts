/**
 * A topic keeps its messages: a new group begins where it wants, an old one goes back.
 */
import { openBroker, type Position, type Receipt } from 'rivulet';

const broker = await openBroker('memory:');
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const receipts: Receipt[] = [];
for (const body of ['a', 'b', 'c', 'd']) receipts.push(await broker.publish('log', { body }));
const [, b, c] = receipts as [Receipt, Receipt, Receipt];
await wait(5);
const noon = new Date();
await wait(5);
for (const body of ['e', 'f']) await broker.publish('log', { body });

async function read(group: string, from: Position): Promise<void> {
  let line = '';
  const subscriber = await broker.subscribe(
    'log',
    (delivery) => {
      line += delivery.text();
    },
    { group, from },
  );
  await wait(30);
  await subscriber.unsubscribe();
  console.log(`${group}: ${line || 'nothing'}`);
}

await read('everything', 'earliest');
await read('after-b', { id: b.id });
await read('afternoon', { time: noon });
await read('from-now-on', 'new');
// A group that is there keeps its place, whatever `from` says ...
await read('everything', 'earliest');
// ... until it is moved.
await broker.replay('log', 'everything', { id: c.id });
await read('everything', 'new');
await broker.disconnect();
