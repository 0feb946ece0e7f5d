/**
 * A worker pool that is stopped in order, and streams in each direction.
 *
 *   npm run example 10
 *
 * Three workers share a queue; each message goes to one of them, and comes again when its handler
 * fails. `stop` lets what is being handled finish. An importer takes a stream and gives one reply, a
 * translator answers line by line.
 */
import { bidi, clientStream, contract, createService, openBroker } from 'rivulet';

const Desk = contract('desk', {
  Desk: {
    Import: clientStream<{ amount: number }, { rows: number; total: number }>(),
    Translate: bidi<string, string>(),
  },
});

await using broker = await openBroker('memory:');
const shared = { broker, registry: 'memory' };
const done = new Map<number, number>();
let failures = 0;

const workers = Array.from({ length: 3 }, (_, index) => {
  const worker = createService({ ...shared, name: 'workers', id: `worker-${index}` });
  worker.subscribe(
    'jobs',
    async (delivery) => {
      const { job } = delivery.json() as { job: number };
      if (job === 3 && delivery.attempt === 1) {
        failures++;
        throw new Error('the printer is out of paper');
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
      done.set(job, (done.get(job) ?? 0) + 1);
    },
    { queue: 'workers', concurrency: 2, retry: { attempts: 5, backoff: { minMs: 10 } } },
  );
  return worker;
});
for (const worker of workers) await worker.start();
for (let job = 1; job <= 12; job++) {
  await broker.publish('jobs', { body: JSON.stringify({ job }) });
}
while (done.size < 12) await new Promise((resolve) => setTimeout(resolve, 10));
const once = [...done.values()].every((times) => times === 1);
console.log(`${done.size} jobs done, each once: ${once}, ${failures} failed and came again`);

await broker.publish('jobs', { body: JSON.stringify({ job: 13 }) });
await new Promise((resolve) => setTimeout(resolve, 10));
await Promise.all(workers.map((worker) => worker.stop()));
console.log(`stopped; job 13 was finished first: ${done.get(13) === 1}`);

await using desk = createService({ ...shared, name: 'desk' });
desk.handle(Desk, {
  Desk: {
    async Import(rows) {
      let [count, total] = [0, 0];
      for await (const { amount } of rows) {
        count++;
        total += amount;
      }
      return { rows: count, total };
    },
    async *Translate(lines) {
      for await (const line of lines) yield line.toUpperCase();
    },
  },
});
await desk.start();
const api = desk.client(Desk).Desk;
console.log(JSON.stringify(await api.Import([{ amount: 20 }, { amount: 35 }])));
for await (const line of api.Translate(['good', 'morning'])) console.log(line);
