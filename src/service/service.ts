/**
 * A service: client, server, broker, registry, selector and transports of one process, as one object.
 *
 * Invariants: `start` registers only after the service can be called, and `stop` deregisters before it
 * drains, so that a rolling restart fails no call; both may be called twice; what a failed `start`
 * opened is closed again; a service that has stopped stays stopped. The record is renewed every
 * `registerIntervalMs`. The client works before the start: it opens what it needs with its first call.
 */

import type { Broker } from '../broker/broker.ts';
import type { AnyTopic, Topic } from '../broker/topics/topic.ts';
import { RivuletError } from '../errors.ts';
import type { Registry, ServiceRecord } from '../registry/registry.ts';
import type { Client } from '../rpc/client.ts';
import type { Log } from '../rpc/context.ts';
import { type Contract, contractName } from '../rpc/contract.ts';
import type { CallOptions, ClientOf, HandlersOf } from '../rpc/handlers.ts';
import { debugOf } from '../rpc/seen/debug.ts';
import { Server } from '../rpc/server.ts';
import { wrapSubscriber } from '../rpc/wrappers.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import type { AnyWorkflow } from '../workflow/workflow.ts';
import type { Workflows } from '../workflow/workflows.ts';
import { clientOf, nounsOf, policiesOf } from './client.ts';
import {
  describeEndpoint,
  describeServer,
  describeSubscription,
  servedMethod,
} from './describe-endpoint.ts';
import { type Runnable, runUntilSignal } from './lifecycle.ts';
import { type Listening, listenOnAll } from './listening.ts';
import type { Nouns } from './nouns.ts';
import { type DebugListener, listenForProbes } from './observation/debug-listener.ts';
import { healthOf, type ServiceHealth } from './observation/health.ts';
import { metricsText } from './observation/metrics.ts';
import { Observation } from './observation/observation.ts';
import { recordStep } from './observation/recorded-work.ts';
import { stderrLog } from './observation/stderr-log.ts';
import type { ServiceOptions } from './options/options.ts';
import { resolveSettings, type ServiceSettings, shownSettings } from './options/settings.ts';
import { traceOf } from './options/trace-options.ts';
import { Registration } from './registration.ts';
import { type ServiceWorkflowOptions, ServiceWorkflows } from './service-workflows.ts';
import {
  type MessageHandler,
  type ServiceSubscribeOptions,
  type ServiceSubscription,
  Subscriptions,
  type ValueHandler,
} from './subscriptions.ts';

/** A deregistered service without a call for this time is known to be gone by every caller. */
const QUIET_MS = 100;
/** Callers without a watch go on calling: they are refused after this. */
const MOST_QUIET_MS = 2000;

/** Throws INVALID_ARGUMENT for an option, variable or flag that is wrong. Opens nothing. */
export function createService(options: ServiceOptions = {}): Service {
  return new Service(options);
}

export class Service implements AsyncDisposable, Runnable {
  /** Every option with its value and where that came from. */
  readonly options: ServiceSettings;
  readonly server: Server;
  readonly #settings: ServiceSettings;
  readonly #scheduler: Scheduler;
  readonly #observation: Observation;
  readonly #nouns: Nouns;
  readonly #client: Client;
  readonly #subscriptions: Subscriptions;
  readonly #runnables: Runnable[] = [];
  #workflows: ServiceWorkflows | null = null;
  readonly #unique: string;
  readonly #stopped: Promise<void>;
  #onStopped: () => void = () => {};
  #listening: Listening | null = null;
  #probes: DebugListener | null = null;
  #unwatchBroker: () => void = () => {};
  #isStarted = false;
  #registration: Registration | null = null;
  #starting: Promise<void> | null = null;
  #stopping: Promise<void> | null = null;
  /** The name of the first contract, where no option says another. */
  #contractName: string | null = null;

  constructor(options: ServiceOptions) {
    this.#settings = resolveSettings(options);
    this.options = shownSettings(this.#settings);
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#unique = this.#scheduler.uniqueName();
    const { wrap, log, accessLog } = this.#settings;
    const behind =
      typeof log.value === 'string' ? stderrLog(log.value, this.#scheduler) : (log.value ?? null);
    this.#observation = new Observation({
      scheduler: this.#scheduler,
      behind,
      writesAccess: accessLog.value as boolean,
      trace: { ...traceOf(this.#settings), service: () => this.name, node: () => this.nodeId },
    });
    this.#nouns = nounsOf(this.#settings, this.#scheduler);
    this.server = new Server({
      name: () => this.name,
      codecs: this.#nouns.codecs,
      scheduler: this.#scheduler,
      wrappers: wrap.value?.server ?? [],
      maxConcurrentCalls: this.#settings.maxConcurrentCalls.value as number,
      maxMessageBytes: this.#settings.maxMessageBytes.value as number,
      ...this.#observation.server,
    });
    const debug = this.#observation.debugHandlers(() => this.health().reasons);
    this.server.handle(debugOf('debug'), debug, { internal: true });
    const policies = policiesOf(this.#settings);
    const { tracer, onCall } = this.#observation;
    const parts = { policies, tracer, onCall };
    this.#client = clientOf(this.#nouns, this.#settings, () => this.name, parts);
    const wrappers = wrap.value?.subscriber ?? [];
    this.#subscriptions = new Subscriptions({
      scheduler: this.#scheduler,
      budget: policies.budget,
      around: (delivery, of, run) =>
        this.#observation.message(delivery, of, () => wrapSubscriber(wrappers, delivery, run)),
    });
    this.#stopped = new Promise((resolve) => {
      this.#onStopped = resolve;
    });
  }

  get name(): string {
    const { value, from } = this.#settings.name;
    return from === 'default' ? (this.#contractName ?? (value as string)) : (value as string);
  }

  get version(): string {
    return this.#settings.version.value as string;
  }

  get nodeId(): string {
    return this.#settings.id.value ?? `${this.name}-${this.#unique}`;
  }

  /** Whether it is in the registry. */
  get isRegistered(): boolean {
    return this.#registration?.isRegistered ?? false;
  }

  /** Adds the handlers of a contract; before `start`. */
  handle<C extends Contract>(contract: C, handlers: HandlersOf<C>): this {
    if (this.#starting !== null || this.#stopping !== null) {
      throw new RivuletError('INVALID_ARGUMENT', 'add handlers before the service starts');
    }
    this.server.handle(contract, handlers);
    this.#contractName ??= contractName(contract);
    return this;
  }

  /**
   * Handles the messages of a topic: a name, whose handler is given the delivery, or a typed topic,
   * whose handler is given the value. Before or after `start`; needs a broker.
   */
  subscribe(
    topic: string,
    handler: MessageHandler,
    options?: ServiceSubscribeOptions,
  ): ServiceSubscription;
  subscribe<Input, Output>(
    topic: Topic<Input, Output>,
    handler: ValueHandler<Output>,
    options?: ServiceSubscribeOptions,
  ): ServiceSubscription;
  subscribe(
    topic: string | AnyTopic,
    handler: MessageHandler | ValueHandler<never>,
    options?: ServiceSubscribeOptions,
  ): ServiceSubscription {
    if (!this.#nouns.hasBroker) {
      const text = `${this.name} has no broker to subscribe on: set \`broker\` or MICRO_BROKER to a URL`;
      throw new RivuletError('FAILED_PRECONDITION', text);
    }
    return this.#subscriptions.add(topic, handler, options);
  }

  /** Starts and stops with the service: a worker of workflows, a gateway. Before `start`. */
  add(runnable: Runnable): this {
    if (this.#starting !== null || this.#stopping !== null) {
      throw new RivuletError('INVALID_ARGUMENT', 'add runnables before the service starts');
    }
    this.#runnables.push(runnable);
    return this;
  }

  /**
   * Works on instances of a workflow, from start to stop. Before `start`; needs a broker with journals.
   */
  workflow(definition: AnyWorkflow, options: ServiceWorkflowOptions = {}): this {
    if (!this.#nouns.hasBroker) {
      const text = `${this.name} has no broker for workflows: set \`broker\` or MICRO_BROKER to a URL`;
      throw new RivuletError('FAILED_PRECONDITION', text);
    }
    if (this.#workflows === null) {
      const made = new ServiceWorkflows(() => this.#nouns.broker(), this, {
        aroundStep: (step, run) => recordStep(this.#observation.tracer, step, run),
      });
      this.add(made);
      this.#workflows = made;
    } else if (this.#starting !== null || this.#stopping !== null) {
      throw new RivuletError('INVALID_ARGUMENT', 'add workflows before the service starts');
    }
    this.#workflows.add(definition, options);
    return this;
  }

  /** Starts, finds and lists instances; there after `start`, where `workflow` was called before. */
  get workflows(): Workflows {
    if (this.#workflows === null) {
      throw new RivuletError('FAILED_PRECONDITION', 'add a workflow before the service starts');
    }
    return this.#workflows.open;
  }

  /** The typed client of another service's contract. */
  client<C extends Contract>(contract: C): ClientOf<C> {
    return this.#client.of(contract);
  }

  /** An untyped call. */
  call<Response = unknown>(
    service: string,
    endpoint: string,
    request?: unknown,
    options?: CallOptions,
  ): Promise<Response> {
    return this.#client.call<Response>(service, endpoint, request, options);
  }

  get log(): Log {
    return this.#observation.log;
  }

  /** Whether it is ready, and why not: for probes. */
  health(): ServiceHealth {
    return healthOf({
      isStarted: this.#isStarted,
      isStopping: this.#stopping !== null,
      isRegistered: this.#registration?.isRegistered ?? null,
      registryError: this.#observation.registryError,
      brokerError: this.#observation.brokerError,
      subscriptions: this.#subscriptions.states,
    });
  }

  /**
   * Calls, messages, workflows and health in Prometheus's text format. How many instances run or are
   * parked is as of the last scrape of `/metrics`, or of `workflows.refreshMetrics()`.
   */
  metrics(): string {
    const own = metricsText({
      labels: { name: this.name, version: this.version, id: this.nodeId },
      rows: this.#observation.statistics.rows,
      running: this.server.running,
      health: this.health(),
      spansDropped: this.#observation.spanStore?.dropped ?? null,
      subscriptions: this.#subscriptions.states,
    });
    const labels = { micro_name: this.name, micro_version: this.version, micro_id: this.nodeId };
    return own + (this.#workflows?.metricsText(labels) ?? '');
  }

  /** host:port of the probes; null where no `debugAddress` was given. */
  get debugAddress(): string | null {
    return this.#probes?.address ?? null;
  }

  /** The broker of the service, connected; rejects with FAILED_PRECONDITION where it has none. */
  broker(): Promise<Broker> {
    return this.#nouns.broker();
  }

  /** Resolves when the service can be called. Idempotent. Rejects with CLOSED once it has stopped. */
  start(): Promise<void> {
    if (this.#stopping !== null) {
      const text = `${this.name} has stopped; create another service to start again`;
      return Promise.reject(new RivuletError('CLOSED', text, { sent: 'no' }));
    }
    this.#starting ??= this.#start().catch(async (error) => {
      // Another start may succeed: a broker that was not there yet is the usual reason.
      await this.#unwind(0, false).catch(() => {});
      await this.#nouns.release().catch(() => {});
      this.#starting = null;
      throw error;
    });
    return this.#starting;
  }

  /** Deregisters, lets calls, streams and messages end, then closes everything. Idempotent. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop().finally(this.#onStopped);
    return this.#stopping;
  }

  /** Starts, and stops at SIGINT, SIGTERM, or when `stop` is called. */
  run(): Promise<void> {
    return runUntilSignal(this, this.#stopped);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #start(): Promise<void> {
    const { debugAddress } = this.#settings;
    if (debugAddress.value !== undefined) {
      this.#probes = await listenForProbes(debugAddress.value, {
        health: () => this.health(),
        metrics: async () => {
          await this.#workflows?.refreshMetrics();
          return this.metrics();
        },
      });
    }
    const registry = await this.#nouns.registry();
    if (this.#nouns.hasBroker) {
      const broker = await this.#nouns.broker();
      this.#unwatchBroker = this.#observation.watchBroker(broker);
      // Also without subscriptions: a later one then begins at once.
      await this.#subscriptions.start(broker);
    }
    for (const runnable of this.#runnables) await runnable.start();
    if (this.server.hasEndpoints || this.#subscriptions.size > 0) await this.#announce(registry);
    this.#isStarted = true;
    const { name, nodeId } = this;
    this.log.info({ service: name, node: nodeId, version: this.version }, 'started');
  }

  /** Listens, then registers. */
  async #announce(registry: Registry): Promise<void> {
    const listen = {
      address: this.#settings.address.value as string,
      handler: this.server.dispatch.bind(this.server),
      nodeId: this.nodeId,
      service: this.name,
      token: this.#scheduler.uniqueName(),
      tls: this.#settings.tls.value,
      described: describeServer(this.server, () => this.health().ready),
      methods: (endpoint: string) => servedMethod(this.server.method(endpoint)),
    };
    const transports = await this.#nouns.listeningTransports();
    this.#listening = await listenOnAll(transports, listen, this.#scheduler);
    const { registerTtlMs, registerIntervalMs, registerCheck } = this.#settings;
    this.#registration = new Registration(registry, this.#record(), this.#scheduler, {
      ttlMs: registerTtlMs.value as number,
      intervalMs: registerIntervalMs.value as number,
      onState: this.#observation.onRegistration,
      ...(registerCheck.value === undefined ? {} : { check: registerCheck.value }),
    });
    await this.#registration.start();
  }

  #record(): ServiceRecord {
    const { address, metadata } = this.#listening as Listening;
    const { advertise } = this.#settings;
    return {
      name: this.name,
      version: this.version,
      metadata: { ...this.#settings.metadata.value },
      endpoints: [
        ...this.server.endpoints(describeEndpoint),
        ...this.#subscriptions.states.map(describeSubscription),
      ],
      nodes: [
        {
          id: this.nodeId,
          address: advertise.value ?? address,
          metadata: {
            protocol: this.#nouns.protocol,
            ...metadata,
            // Our own framing is dialled where everything else is.
            ...(advertise.value !== undefined && 'rivulet.tcp' in metadata
              ? { 'rivulet.tcp': advertise.value }
              : {}),
          },
        },
      ],
    };
  }

  async #stop(): Promise<void> {
    // A start that waits for its registration is not waited for.
    const drainMs = this.#settings.drainTimeoutMs.value as number;
    if (!this.#isStarted) void this.#registration?.stop(drainMs);
    await this.#starting?.catch(() => {});
    if (this.#isStarted) this.log.info({ service: this.name, node: this.nodeId }, 'stopping');
    await this.#unwind(drainMs, true);
    await this.#probes?.close();
    await this.#client.close();
    await this.#observation.spanStore?.close();
    this.#unwatchBroker();
    await this.#nouns.close();
  }

  /** Everything that `start` did, undone in the reverse order. */
  async #unwind(drainMs: number, isFinal: boolean): Promise<void> {
    const wasRegistered = this.#registration?.wasRegistered === true;
    await this.#registration?.stop(isFinal ? drainMs : undefined);
    this.#registration = null;
    // Callers learn of it from their registries, and those that have not yet still find it at work.
    const since = this.#scheduler.monotonic();
    if (isFinal && wasRegistered) {
      await this.server.untilQuiet(QUIET_MS, Math.min(drainMs, MOST_QUIET_MS));
    }
    const leftMs = Math.max(0, drainMs - (this.#scheduler.monotonic() - since));
    if (!isFinal) {
      await this.#probes?.close();
      this.#probes = null;
      this.#unwatchBroker();
    }
    const listening = this.#listening;
    this.#listening = null;
    await Promise.all([
      isFinal ? this.server.drain(leftMs) : null,
      listening?.close(leftMs),
      isFinal ? this.#subscriptions.close(leftMs) : this.#subscriptions.pause(),
      ...this.#runnables.map((runnable) => runnable.stop().catch(() => {})),
    ]);
  }
}
