/**
 * A server with something to look at: topics, a group with pending messages, dead letters, a responder
 * and a service, all of fixed names, made again for each command.
 */
import { openBroker } from '../../src/broker/open-broker.ts';
import { type Client, connect } from '../../src/client/client.ts';
import { contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { createService } from '../../src/service/service.ts';
import { Terminal, workflow } from '../../src/workflow/index.ts';
import { workflows } from '../../src/workflow/workflows.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';

export const FIRST_ID = '1700000000000-0';

export interface BrokerFixture extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly client: Client;
  /** Topics, groups and dead letters as they are at the beginning. */
  renew(): Promise<void>;
}

export const Greeter = contract('go.micro.srv.greeter', {
  Say: {
    Hello: unary<{ name: string }, { msg: string }>(),
    Count: serverStream<{ to: number }, { number: number }>(),
  },
});

const order = workflow({ name: 'order' }, async (wf, input: { sku: string }) => {
  await wf.step('charge', () => {
    if (input.sku === '') throw new Terminal('no such article');
    return { paid: true };
  });
  wf.state({ stage: 'paid' });
  await wf.sleep(86_400_000);
});

export async function brokerFixture(): Promise<BrokerFixture> {
  const server = await startRivulet({ args: ['--appendfsync', 'no'] });
  const url = `rivulet://127.0.0.1:${server.port}`;
  const client = await connect({ port: server.port });
  const broker = await openBroker(url);
  await broker.respond('echo', ({ headers, body }) => ({ headers, body }));
  const service = createService({ name: 'go.micro.srv.greeter', version: '1.0.0', broker });
  service.handle(Greeter, {
    Say: {
      Hello: ({ name }) => ({ msg: `Hello ${name}` }),
      async *Count({ to }) {
        for (let number = 1; number <= to; number++) yield { number };
      },
    },
  });
  await service.start();
  const flows = await workflows(broker, { definitions: [order] });
  await flows.start(order, { sku: 'ab' }, { id: 'order-17' });
  const failing = await flows.start(order, { sku: '' }, { id: 'order-18' });
  await failing.result().catch(() => {});
  return {
    url,
    port: server.port,
    client,
    renew: () => renew(client),
    async [Symbol.asyncDispose]() {
      await flows.close();
      await service.stop();
      await broker.disconnect();
      await client.close();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function renew(client: Client): Promise<void> {
  await client.call('DEL', 'orders', 'payments', 'payments.dead', 'letters');
  await client.call('XADD', 'orders', FIRST_ID, 'body', '{"id":0}');
  for (let id = 1; id < 5; id++) {
    await client.call('XADD', 'orders', `170000000000${id}-0`, 'body', `{"id":${id}}`);
  }
  await client.call('XGROUP', 'CREATE', 'orders', 'billing', '0');
  const read = ['STREAMS', 'orders', '>'] as const;
  await client.call('XREADGROUP', 'GROUP', 'billing', 'ann', 'COUNT', '2', ...read);
  await client.call('XGROUP', 'CREATE', 'payments', 'billing', '0', 'MKSTREAM');
  const policy = ['MAXDELIVERIES', '1', 'DEADLETTER', 'payments.dead'] as const;
  await client.call('XGROUP', 'SETPOLICY', 'payments', 'billing', ...policy);
  for (const id of ['1700000000000-0', '1700000000001-0']) {
    await client.call('XADD', 'payments', id, 'body', '{"card":"declined"}');
  }
  await client.call('XREADGROUP', 'GROUP', 'billing', 'ann', 'STREAMS', 'payments', '>');
  const ids = ['IDS', '2', '1700000000000-0', '1700000000001-0'] as const;
  await client.call(
    'XNACK',
    'payments',
    'billing',
    'DEADLETTER',
    ...ids,
    'REASON',
    'card declined',
  );
}
