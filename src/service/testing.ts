/**
 * Services on a virtual clock, for tests: timeouts, breakers and registries without waiting.
 *
 *   await using t = await createTestService({ name: 'users', seed: 7 });
 *   t.service.handle(Users, { UserSrv: { GetAccount } });
 *   await t.service.start();
 *   const call = t.client(Users).UserSrv.GetAccount({ id: 7 });
 *   await t.advance(5_000);
 *
 * All services of one world share a clock, a broker, a registry and a network within the process. Time
 * passes only in `advance`. Equal seeds give equal runs. `kill` ends a node as SIGKILL does,
 * `freeze` and `thaw` stop and continue one as SIGSTOP and SIGCONT do, `registryDown` takes the registry
 * away. Variables and flags of the process are not read. Limit: as of createTestBroker.
 */
import type { Broker } from '../broker/broker.ts';
import { createTestBroker } from '../broker/testing.ts';
import type { Registry } from '../registry/registry.ts';
import type { Contract } from '../rpc/contract.ts';
import type { ClientOf } from '../rpc/handlers.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { type ClientOptions, client } from './client.ts';
import type { ServiceOptions } from './options/options.ts';
import { createService, type Service } from './service.ts';
import { TestNetwork, TestRegistries } from './test-network.ts';

export * from '../broker/testing.ts';
export * from '../workflow/testing.ts';

type WorldOptions = 'scheduler' | 'environment' | 'args' | 'broker' | 'registry' | 'transport';

export interface TestServiceOptions extends Omit<ServiceOptions, WorldOptions> {
  /** @default 1 */
  readonly seed?: number;
  /** The time at which the clock begins. @default 14 November 2023, 22:13:20 UTC */
  readonly now?: Date;
}

export interface TestService extends AsyncDisposable {
  /** Made with the options, not started. */
  readonly service: Service;
  /** Shared by all services of this world. */
  readonly broker: Broker;
  readonly registry: Registry;
  readonly scheduler: Scheduler;
  /** Another service of this world, not started. */
  open(options?: Omit<ServiceOptions, WorldOptions>): Service;
  /** A client of this world. */
  client<C extends Contract>(contract: C, options?: Omit<ClientOptions, WorldOptions>): ClientOf<C>;
  /** Ends the node as SIGKILL does: calls in flight are lost, the registry learns of it by the TTL. */
  kill(service: Service): void;
  /** The node takes no call until `thaw`; callers wait until their deadlines. */
  freeze(service: Service): void;
  thaw(service: Service): void;
  /** True: no registry call succeeds. False: the registry is back with what it had. */
  registryDown(isDown: boolean): void;
  now(): Date;
  /** Lets `ms` milliseconds pass and runs what falls due. */
  advance(ms: number): Promise<void>;
  /** Waits until no work is left that needs no time. */
  settle(): Promise<void>;
  /** Resolves after `ms` virtual milliseconds: for handlers that take time. */
  pause(ms: number): Promise<void>;
  /** The outcome of a promise that needs time: lets timers fall due until it has settled. */
  finish<T>(promise: Promise<T>): Promise<T>;
}

export async function createTestService(options: TestServiceOptions = {}): Promise<TestService> {
  const { seed = 1, now, ...rest } = options;
  const t = await createTestBroker({ seed, ...(now === undefined ? {} : { now }) });
  const { scheduler, broker } = t;
  const network = new TestNetwork(scheduler);
  const registries = new TestRegistries(scheduler);
  const services: Service[] = [];
  const clients: AsyncDisposable[] = [];
  const doors = new Map<Service, { close(): void }>();
  const world = { scheduler, broker, environment: false, args: false } as const;
  const open = (more: Omit<ServiceOptions, WorldOptions> = {}) => {
    const door = registries.door();
    const service = createService({
      ...more,
      ...world,
      registry: door,
      transport: network.transport(),
    });
    services.push(service);
    doors.set(service, { close: () => door.cut() });
    return service;
  };
  const finish = async <T>(promise: Promise<T>): Promise<T> => {
    let isOver = false;
    const over = () => {
      isOver = true;
    };
    promise.then(over, over);
    await t.settle();
    while (!isOver) {
      if (!(await step(t))) throw new Error('the promise waits for something that no timer brings');
    }
    return promise;
  };
  return {
    service: open(rest),
    broker,
    registry: registries.door(),
    scheduler,
    open,
    client(contract, more = {}) {
      const made = client(contract, {
        ...more,
        ...world,
        registry: registries.door(),
        transport: network.transport(),
      });
      clients.push(made);
      return made;
    },
    kill(service) {
      doors.get(service)?.close();
      network.kill(service.nodeId);
    },
    freeze: (service) => network.freeze(service.nodeId),
    thaw: (service) => network.thaw(service.nodeId),
    registryDown(isDown) {
      registries.isDown = isDown;
    },
    now: t.now,
    advance: t.advance,
    settle: t.settle,
    pause: t.pause,
    finish,
    async [Symbol.asyncDispose]() {
      const closing = [
        ...clients.map((each) => each[Symbol.asyncDispose]()),
        ...services.map((each) => each.stop()),
      ];
      await finish(Promise.all(closing));
      await registries.close();
      await t[Symbol.asyncDispose]();
    },
  };
}

/** A day is longer than any timer of ours. */
async function step(t: { advance(ms: number): Promise<void>; scheduler: Scheduler }) {
  const virtual = t.scheduler as Scheduler & { step(): Promise<boolean> };
  return virtual.step();
}
