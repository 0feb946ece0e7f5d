/**
 * `wf.call`: a method of a service, called with the step's key as idempotency key.
 *
 * The service that the workflows belong to calls, or, where they are used alone, a separate client that
 * looks services up in the broker's registry; it is opened with the first call.
 */
import type { Broker } from '../../broker/broker.ts';
import { openRegistry } from '../../registry/open-registry.ts';
import { Client } from '../../rpc/client.ts';
import { type Contract, placeOfMethod } from '../../rpc/contract.ts';
import type { ClientOf } from '../../rpc/handlers.ts';
import { RegistrySelector } from '../../selector/registry-selector.ts';
import { strategyByName } from '../../selector/strategies.ts';
import { LocalTransport } from '../../transport/local/local.ts';
import { TcpTransport } from '../../transport/tcp/tcp.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { CallRequest } from './context.ts';

/** What calls other services: a Service does. */
export interface ServiceCaller {
  client<C extends Contract>(contract: C): ClientOf<C>;
}

export class Calls {
  readonly #broker: Broker;
  readonly #scheduler: Scheduler;
  readonly #given: ServiceCaller | null;
  #own: Promise<{ caller: ServiceCaller; close: () => Promise<void> }> | null = null;

  constructor(broker: Broker, scheduler: Scheduler, given: ServiceCaller | null) {
    this.#broker = broker;
    this.#scheduler = scheduler;
    this.#given = given;
  }

  async call({ method, request, options }: CallRequest, key: string, signal: AbortSignal) {
    const place = placeOfMethod(method);
    if (place === undefined) throw new TypeError('the method is in no contract');
    const caller = this.#given ?? (await this.#opened()).caller;
    type Call = (request: unknown, options: object) => Promise<unknown>;
    const client = caller.client(place.contract) as Record<string, Record<string, Call>>;
    const { timeoutMs, metadata } = options;
    return client[place.struct]?.[place.method]?.(request, {
      signal,
      idempotencyKey: key,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(metadata === undefined ? {} : { metadata }),
      ...(options.key === undefined ? {} : { key: options.key }),
    });
  }

  async close(): Promise<void> {
    const own = await this.#own?.catch(() => null);
    await own?.close();
  }

  #opened() {
    this.#own ??= this.#open();
    return this.#own;
  }

  async #open() {
    const scheduler = this.#scheduler;
    const registry = await openRegistry('broker', { scheduler, broker: this.#broker });
    const strategy = strategyByName('random');
    if (strategy === null) throw new TypeError('there is no strategy');
    const client = new Client({
      selector: new RegistrySelector(registry, { strategy, scheduler }),
      transports: [new LocalTransport(scheduler), new TcpTransport({ scheduler })],
      scheduler,
      fromService: 'workflows',
    });
    const caller: ServiceCaller = { client: (contract) => client.of(contract) };
    return {
      caller,
      close: async () => {
        await client.close();
        await registry.close();
      },
    };
  }
}
