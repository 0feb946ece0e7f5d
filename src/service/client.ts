/**
 * A typed client outside of a service: `client(Users, { broker, registry })`.
 *
 *   await using users = client(Users, { registry: 'mdns' });
 *   const account = await users.UserSrv.GetAccount({ id: 7 });
 *
 * Invariants: nothing is opened before the first call; what was opened by URL or name is closed with
 * the client, what was given as an instance stays open. Options are a service's, with the same
 * variables and flags. Cost: as a service's client.
 */
import { withoutPassword } from '../broker/addresses.ts';
import { RivuletError } from '../errors.ts';
import { isAddress } from '../registry/record.ts';
import { Client, type ClientOptions as ClientSetup } from '../rpc/client.ts';
import type { Contract } from '../rpc/contract.ts';
import type { ClientOf } from '../rpc/handlers.ts';
import { Policies } from '../rpc/policies/policies.ts';
import { Tracer } from '../rpc/seen/spans.ts';
import type { ClientWrapper } from '../rpc/wrappers.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { Nouns } from './nouns.ts';
import type { ClientSettings, NounOptions, ServiceOptions } from './options/options.ts';
import { resolveSettings, type ServiceSettings } from './options/settings.ts';

export interface ClientOptions
  extends NounOptions,
    ClientSettings,
    Pick<ServiceOptions, 'environment' | 'args'> {
  /** Sent as Micro-From-Service. Default: nothing. */
  readonly name?: string;
  readonly wrap?: { readonly client?: readonly ClientWrapper[] };
}

/** The structs of the contract, and what closes the client. */
export type ClosableClient<C extends Contract> = ClientOf<C> &
  AsyncDisposable & {
    /** Ends what was opened. Not there where a struct of the contract has this name. */
    close(): Promise<void>;
  };

/** Throws INVALID_ARGUMENT for an option, variable or flag that is wrong. */
export function client<C extends Contract>(
  contract: C,
  options: ClientOptions = {},
): ClosableClient<C> {
  const opened = openClient(options);
  const close = () => opened.close();
  const structs = opened.client.of(contract);
  if (!('close' in structs)) Object.defineProperty(structs, 'close', { value: close });
  Object.defineProperty(structs, Symbol.asyncDispose, { value: close });
  return structs as ClosableClient<C>;
}

/** A client without a contract, for untyped calls. */
export interface OpenClient {
  readonly client: Client;
  readonly call: Client['call'];
  close(): Promise<void>;
}

export function openClient(options: ClientOptions = {}): OpenClient {
  const settings = resolveSettings(options);
  const nouns = nounsOf(settings, options.scheduler ?? systemScheduler);
  const { value, from } = settings.name;
  const parts = {
    policies: policiesOf(settings),
    tracer: new Tracer(options.scheduler ?? systemScheduler),
  };
  const fromService = () => (from === 'default' ? null : (value as string));
  const made = clientOf(nouns, settings, fromService, parts);
  return {
    client: made,
    call: made.call.bind(made) as Client['call'],
    close: async () => {
      await made.close();
      await nouns.close();
    },
  };
}

export function nounsOf(settings: ServiceSettings, scheduler: Scheduler): Nouns {
  const { broker, registry, selector, transport, codec, tls, maxMessageBytes } = settings;
  return new Nouns({
    scheduler,
    ...(broker.value === undefined ? {} : { broker: broker.value }),
    ...(registry.value === undefined ? {} : { registry: registry.value }),
    ...(selector.from === 'default' ? {} : { selector: selector.value as string }),
    ...(transport.value === undefined ? {} : { transport: transport.value }),
    ...(codec.value === undefined ? {} : { codec: codec.value }),
    ...(tls.value === undefined ? {} : { tls: tls.value }),
    // The default is tcp's; grpc has its own, which its peers in other languages share.
    ...(maxMessageBytes.from === 'default'
      ? {}
      : { maxMessageBytes: maxMessageBytes.value as number }),
  });
}

interface ClientParts {
  readonly policies: Policies;
  readonly tracer: Tracer;
  readonly onCall?: ClientSetup['onCall'];
}

export function clientOf(
  nouns: Nouns,
  settings: ServiceSettings,
  fromService: () => string | null,
  { policies, tracer, onCall }: ClientParts,
): Client {
  const { requestTimeoutMs, dialTimeoutMs, retries, poolSize, local, proxy } = settings;
  return new Client({
    selector: nouns.selector,
    transports: () => nouns.transports(),
    codecs: nouns.codecs,
    contentType: nouns.contentType,
    scheduler: settings.scheduler.value ?? systemScheduler,
    wrappers: settings.wrap.value?.client ?? [],
    requestTimeoutMs: requestTimeoutMs.value as number,
    dialTimeoutMs: dialTimeoutMs.value as number,
    retries: retries.value as number,
    poolSize: poolSize.value as number,
    poolTtlMs: settings.poolTtlMs.value as number,
    local: local.value as 'copy' | 'share',
    maxMessageBytes: settings.maxMessageBytes.value as number,
    policies,
    tracer,
    ...(onCall === undefined ? {} : { onCall }),
    ...(nouns.anyNode === null ? {} : { anyNode: nouns.anyNode }),
    ...(proxy.value === undefined ? {} : { proxy: checkProxy(proxy.value) }),
    fromService,
  });
}

export function policiesOf(settings: ServiceSettings): Policies {
  const { scheduler, retryBudget, breaker, bulkhead } = settings;
  return new Policies(scheduler.value ?? systemScheduler, {
    retryBudget: retryBudget.value ?? {},
    breaker: breaker.value ?? {},
    bulkhead: bulkhead.value ?? {},
  });
}

function checkProxy(proxy: string): string {
  const address = proxy.replace(/^[a-z]+:\/\//, '');
  if (isAddress(address)) return address;
  const shown = JSON.stringify(withoutPassword(proxy).slice(0, 100));
  const text = `proxy ${shown} is no host:port`;
  throw new RivuletError('INVALID_ARGUMENT', text);
}
