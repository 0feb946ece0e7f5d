/**
 * The workflows of a service: a worker that starts and stops with it.
 *
 * Invariant: it works on the service's broker and calls through the service's client; both outlive it.
 */
import type { Broker } from '../broker/broker.ts';
import { RivuletError } from '../errors.ts';
import type { ServiceCaller } from '../workflow/execution/calls.ts';
import type { AnyWorkflow } from '../workflow/workflow.ts';
import { type Workflows, workflows } from '../workflow/workflows.ts';
import type { WorkflowsHooks, WorkflowsOptions } from '../workflow/workflows-options.ts';
import type { Runnable } from './lifecycle.ts';

export type ServiceWorkflowOptions = Omit<WorkflowsOptions, 'definitions' | 'service'>;

export class ServiceWorkflows implements Runnable {
  readonly #definitions: AnyWorkflow[] = [];
  readonly #broker: () => Promise<Broker>;
  readonly #service: ServiceCaller;
  readonly #hooks: WorkflowsHooks;
  #options: ServiceWorkflowOptions = {};
  #open: Workflows | null = null;

  constructor(broker: () => Promise<Broker>, service: ServiceCaller, hooks: WorkflowsHooks) {
    this.#broker = broker;
    this.#service = service;
    this.#hooks = hooks;
  }

  add(definition: AnyWorkflow, options: ServiceWorkflowOptions): void {
    this.#definitions.push(definition);
    this.#options = { ...this.#options, ...options };
  }

  /** Throws before the service has started. */
  get open(): Workflows {
    if (this.#open !== null) return this.#open;
    throw new RivuletError(
      'FAILED_PRECONDITION',
      'workflows are there when the service has started',
    );
  }

  /** In Prometheus's text format; empty before the start. */
  metricsText(labels: Readonly<Record<string, string>>): string {
    return this.#open?.metricsText(labels) ?? '';
  }

  /** Asks the broker for what `metricsText` shows. Never rejects. */
  async refreshMetrics(): Promise<void> {
    await this.#open?.refreshMetrics();
  }

  async start(): Promise<void> {
    const options = {
      ...this.#options,
      definitions: this.#definitions,
      service: this.#service,
    };
    this.#open ??= await workflows(await this.#broker(), options, this.#hooks);
  }

  async stop(): Promise<void> {
    const open = this.#open;
    this.#open = null;
    await open?.close();
  }
}
