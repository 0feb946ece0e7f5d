/**
 * The registries that are plugins of go-micro v2 beside ours: each finds the services of the other, calls
 * them, and sees them go. ZooKeeper is a real server; Consul and Eureka are our models of their APIs.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../../../src/conformance/case-context.ts';
import { openRegistry } from '../../../src/registry/open-registry.ts';
import { missing, type Requirement } from '../../helpers/requirements.ts';
import { startZookeeper } from '../../helpers/zookeeper-server.ts';
import { ConsulModel } from '../../registry/models/consul-model.ts';
import { EurekaModel } from '../../registry/models/eureka-model.ts';
import { ordersOf, startOrders } from './go-orders.ts';
import { missingGo, startGo } from './go-programs.ts';

const OURS = 'go.micro.ts.orders';
const THEIRS = 'go.micro.go.orders';

interface Place {
  readonly name: string;
  readonly scheme: string;
  readonly needs: readonly Requirement[];
  /** The plugin asks Eureka to delete another id than it registered, so its service stays. */
  readonly stays?: true;
  /** What follows the scheme in the address. */
  start(): Promise<{ readonly rest: string } & AsyncDisposable>;
}

const places: readonly Place[] = [
  {
    name: 'ZooKeeper',
    scheme: 'zookeeper',
    needs: ['zookeeper'],
    start: async () => {
      const node = await startZookeeper();
      return Object.assign(node, { rest: `127.0.0.1:${node.port}` });
    },
  },
  {
    name: 'Consul (our model of its API)',
    scheme: 'consul',
    needs: [],
    start: async () => {
      const model = new ConsulModel();
      await model.start();
      return Object.assign(model, { rest: `127.0.0.1:${model.port}` });
    },
  },
  {
    name: 'Eureka (our model of its API)',
    scheme: 'eureka',
    needs: [],
    stays: true,
    start: async () => {
      const model = new EurekaModel();
      await model.start();
      return Object.assign(model, { rest: `127.0.0.1:${model.port}/eureka/v2` });
    },
  },
];

for (const { name, scheme, needs, stays, start } of places) {
  test(`go-micro v2's plugin of ${name} and our registry find the services of each other, and calls go both ways`, {
    skip: missingGo('v2-plugins') || missing(...needs),
  }, async () => {
    await using place = await start();
    const url = `${scheme}://${place.rest}`;
    await using registry = await openRegistry(url);
    await using go = await startGo('v2-plugins', 'serve', 'mucp', url, THEIRS, OURS);
    await using service = await startOrders(OURS, registry, 'http', THEIRS);
    const find = async () => (await registry.getService(THEIRS)).length;
    await eventually('our registry finds the service in Go', async () => (await find()) > 0);
    for (const [called, user] of [
      // Each order service asks the user service of the other.
      [THEIRS, 'Hello TypeScript, called by us'],
      [OURS, 'Hello Go, called by us'],
    ] as const) {
      const orders = service.client(await ordersOf(called)).OrderSrv;
      const metadata = { 'X-Caller': 'us' };
      const order = await orders.GetOrder({ id: 7, what: 'user' }, { metadata });
      assert.deepEqual(order, { id: 7, user, caller: 'us' });
    }
    await go[Symbol.asyncDispose]();
    if (stays) return;
    await eventually('the service in Go is gone', async () => (await find()) === 0);
  });
}
