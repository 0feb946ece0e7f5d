/** What adapters declare about their client libraries is checked where the URL says the scheme. */
import { openBroker, type SchemeOptions } from 'rivulet';
import '@rivulet/nats';
import '@rivulet/rabbitmq';
import '@rivulet/redis';

/** Compiled, not run. */
export async function options(url: string): Promise<void> {
  const redis: SchemeOptions['redis'] = { maxRetriesPerRequest: 5 };
  await openBroker('redis://a', { client: redis });
  // @ts-expect-error: misspelt
  await openBroker('redis://a', { client: { maxRetriesPerRequests: 5 } });
  await openBroker(['nats://a', 'nats://b'], { client: { replicas: 1 } });
  // @ts-expect-error: a number
  await openBroker(['nats://a', 'nats://b'], { client: { replicas: 'one' } });
  await openBroker('amqps://a', { client: { ca: 'PEM', noDelay: true } });
  // @ts-expect-error: a boolean
  await openBroker('amqp://a', { client: { noDelay: 5 } });
  await openBroker('http://a', { client: { advertise: 'host:1' } });
  // @ts-expect-error: no option of the http broker
  await openBroker('http://a', { client: { advertize: 'host:1' } });
  // What the types do not know is passed on as it is.
  await openBroker(url, { client: { anything: 1 } });
  await openBroker('other-scheme://a', { client: { anything: 1 } });
}
