/**
 * Publish and subscribe, without any server: the broker lives in this process.
 *
 * Run it: npm run example 01
 */
import { openBroker } from 'rivulet';

interface Order {
  readonly id: number;
  readonly total: number;
}

// `memory:` for as long as the process runs; `file:./data` keeps everything on disk.
const broker = await openBroker('memory:');

// A typed topic: values go in, values come out (JSON here; any schema library can check them).
const orders = broker.topic<Order>('orders.created');

// Without a group every subscriber gets every message.
await orders.subscribe((order) => {
  console.log(`printer: order ${order.id}, ${order.total} EUR`);
});

// Wildcards: `*` is one word, `>` the rest.
await broker.subscribe('orders.>', ({ topic }) => {
  console.log(`audit: something on ${topic}`);
});

for (const [id, total] of [
  [1, 20],
  [2, 35],
  [3, 7],
] as const) {
  // Resolves when the broker has it; subscribers get it at their own pace.
  await orders.publish({ id, total });
  await new Promise((resolve) => setTimeout(resolve, 10));
}

// Waits for running handlers, then closes.
await broker.disconnect();
