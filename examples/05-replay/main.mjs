/**
 * A topic keeps its messages: a new group begins where it wants, an old one goes back.
 */
import { openBroker } from 'rivulet';

const broker = await openBroker('memory:');
const message = (text) => ({ headers: {}, body: Buffer.from(text) });
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const receipts = [];
for (const text of ['a', 'b', 'c', 'd']) receipts.push(await broker.publish('log', message(text)));
await wait(5);
const noon = new Date();
await wait(5);
for (const text of ['e', 'f']) await broker.publish('log', message(text));

async function read(group, from) {
  let line = '';
  const subscriber = await broker.subscribe(
    'log',
    ({ message }) => {
      line += message.body;
    },
    { group, from },
  );
  await wait(30);
  await subscriber.unsubscribe();
  console.log(`${group}: ${line || 'nothing'}`);
}

await read('everything', 'earliest');
await read('after-b', { id: receipts[1].id });
await read('afternoon', { time: noon });
await read('from-now-on', 'new');
// A group that is there keeps its place, whatever `from` says ...
await read('everything', 'earliest');
// ... until it is moved.
await broker.replay('log', 'everything', { id: receipts[2].id });
await read('everything', 'new');
await broker.disconnect();
