/** Strict order on RabbitMQ, while its only node is killed and comes back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { eventually, message, numbers, Seen, text } from '../../../src/conformance/case-context.ts';
import { type RabbitMqNode, startRabbitMq } from '../../helpers/rabbitmq-server.ts';
import { missing } from '../../helpers/requirements.ts';

test('strict order holds and nothing acknowledged is lost when the server dies under load', {
  skip: missing('rabbitmq-server'),
  timeout: 120_000,
}, async () => {
  await using server = await startRabbitMq();
  const node = server.nodes[0] as RabbitMqNode;
  await using publisher = await openBroker(node.url, { publishTimeoutMs: 60_000 });
  await using first = await openBroker(node.url);
  await using second = await openBroker(node.url);
  const seen = new Seen<string>();
  for (const broker of [first, second]) {
    await broker.subscribe('t', (each) => seen.add(text(each)), {
      group: 'g',
      ordered: 'strict',
      maxInFlight: 20,
    });
  }
  let count = 0;
  let stopped = false;
  const publish = async () => {
    while (!stopped) {
      const some = numbers(count, count + 5);
      count += some.length;
      await Promise.all(some.map((each) => publisher.publish('t', message(each))));
    }
  };
  const publishing = publish();
  await seen.count(100);
  // RabbitMQ writes its register of new queues to disk up to a second after it has made them.
  await node.evaluate('[dets:sync(Table) || Table <- dets:all()], ok.');
  await node.kill();
  const before = count;
  await node.start();
  await eventually('publishes go on', () => count > before + 50, 60_000);
  stopped = true;
  await publishing;
  await seen.until((items) => new Set(items).size === count, 'all of them', 60_000);
  // What was acknowledged and not on disk yet comes again; nothing comes before its predecessors.
  assert.deepEqual([...new Set(seen.items)], numbers(0, count));
});
