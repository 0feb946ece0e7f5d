/**
 * A consumer that a message ends: a program of its own for tests of attempts.
 *
 * Arguments: address, topic, and `ordered` for an ordered group. It tells each message and attempt
 * that its handler gets and ends at once by `poison`.
 */
import { openBroker } from '../../src/broker/open-broker.ts';
import { text } from '../../src/conformance/world.ts';

const [url = '', topic = '', ordered = ''] = process.argv.slice(2);
const broker = await openBroker(url);
await broker.subscribe(
  topic,
  async (delivery) => {
    const told = new Promise((resolve) =>
      process.send?.(`${text(delivery)} ${delivery.attempt}`, resolve),
    );
    await told;
    if (text(delivery) === 'poison') process.exit(9);
  },
  {
    group: 'g',
    from: 'earliest',
    retry: { attempts: 3 },
    maxInFlight: 5,
    ackWaitMs: 700,
    ...(ordered === 'ordered' ? { ordered: 'strictly' as const } : {}),
  },
);
