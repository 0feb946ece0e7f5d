/**
 * Groups: the members of a group share the messages, every group gets them all.
 */
import { openBroker } from 'rivulet';

const broker = await openBroker('memory:');
const shares = { 'billing-1': 0, 'billing-2': 0, statistics: 0 };
const done: string[] = [];

async function member(name: keyof typeof shares, group: string): Promise<void> {
  await broker.subscribe(
    'orders',
    async (delivery) => {
      await new Promise((resolve) => setTimeout(resolve, 2));
      shares[name]++;
      done.push(`${group} ${delivery.text()}`);
    },
    { group },
  );
}

await member('billing-1', 'billing');
await member('billing-2', 'billing');
await member('statistics', 'statistics');

// Many messages in one exchange.
await broker.publishBatch(
  'orders',
  Array.from({ length: 20 }, (_, i) => ({ body: String(i) })),
);
while (done.length < 40) await new Promise((resolve) => setTimeout(resolve, 5));

console.log(`billing has had ${shares['billing-1'] + shares['billing-2']} messages, each once:`);
console.log(new Set(done.filter((each) => each.startsWith('billing'))).size === 20);
console.log(`both of its members worked: ${shares['billing-1'] > 0 && shares['billing-2'] > 0}`);
console.log(`statistics has had ${shares.statistics}`);

// What is where: length of each topic, and what its groups have still to do.
for await (const { topic, length, groups } of broker.topics()) {
  console.log(`${topic}: ${length} messages`);
  for (const { name, pending, lag } of groups)
    console.log(`  ${name}: pending ${pending}, lag ${lag}`);
}
await broker.disconnect();
