/**
 * `wf`: how a workflow's function asks for operations.
 *
 * Arguments are checked when the function asks, so a wrong option is an error at its line. Nothing here
 * runs anything: flow.ts keeps what was asked for, execution.ts does it.
 */
import type { Message } from '../../broker/message/message.ts';
import type { Topic } from '../../broker/topics/topic.ts';
import { invalid, LONGEST_DELAY_MS, shown } from '../../client/option-table.ts';
import { type AnyMethod, contractName, placeOfMethod } from '../../rpc/contract.ts';
import { checkId } from '../journal/keys.ts';
import { stored } from '../journal/values.ts';
import type {
  AnyWorkflow,
  CallOptions,
  ChildOptions,
  Signal,
  StepContext,
  StepOptions,
  WorkflowContext,
  WorkflowPublishOptions,
} from '../workflow.ts';
import {
  checkCallOptions,
  checkChildOptions,
  checkPublishOptions,
  checkStepOptions,
  checkWaitOptions,
  isWorkflow,
} from '../workflow.ts';
import type { Flow } from './flow.ts';

const LONGEST_NAME = 200;

/** What the executor does for an operation that is no step. */
export interface PublishRequest {
  readonly topic: string | Topic<unknown, unknown>;
  readonly value: unknown;
  readonly options: WorkflowPublishOptions;
}

export interface SpawnRequest {
  readonly definition: AnyWorkflow;
  readonly input: unknown;
  readonly id: string;
}

export interface CallRequest {
  readonly method: AnyMethod;
  readonly request: unknown;
  readonly options: CallOptions<unknown>;
}

/** `most`: the largest value given to `wf.state`, bytes. */
export function contextOf(flow: Flow, most: number): WorkflowContext {
  const spawn = (
    kind: 'child' | 'start',
    definition: AnyWorkflow,
    input: unknown,
    options?: ChildOptions,
  ) => {
    if (!isWorkflow(definition))
      throw invalid(`wf.${kind} takes a workflow, not ${shown(definition)}`);
    checkChildOptions(options);
    const { run = 0 } = flow.start;
    // Operations are numbered from 1 again after continueAsNew.
    const id = options?.id ?? `${flow.id}.${run === 0 ? '' : `${run}~`}${flow.asked + 1}`;
    checkId(id);
    const request: SpawnRequest = { definition, input, id };
    return flow.ask(kind, definition.name, { request });
  };
  const context: WorkflowContext = {
    name: flow.name,
    id: flow.id,
    version: flow.definition.version,
    step<T>(name: string, run: (step: StepContext) => T | Promise<T>, options?: StepOptions<T>) {
      checkOperationName(name);
      if (typeof run !== 'function') {
        throw invalid(`step ${name}: the second argument is a function, not ${shown(run)}`);
      }
      checkStepOptions(options);
      return flow.ask('step', name, {
        run,
        options: (options ?? {}) as StepOptions<unknown>,
      }) as Promise<T>;
    },
    call(method: AnyMethod, request?: unknown, options: CallOptions<never> = {}) {
      const place = placeOfMethod(method);
      if (place === undefined) {
        throw invalid('wf.call takes a method of a contract, as inventory.Stock.Reserve');
      }
      if (method.kind !== 'unary') {
        throw invalid(
          `wf.call: ${place.struct}.${place.method} is a stream; call it inside a step`,
        );
      }
      checkCallOptions(options);
      const name = `${contractName(place.contract)}.${place.struct}.${place.method}`;
      const more: CallRequest = { method, request, options: options as CallOptions<unknown> };
      return flow.ask('call', name, { request: more, options: options as StepOptions<unknown> });
    },
    wait(signal: Signal<unknown>, options?: { timeoutMs?: number | undefined }) {
      checkOperationName(signal?.name);
      checkWaitOptions(options);
      const { timeoutMs } = options ?? {};
      return flow.wait(signal.name, timeoutMs === undefined ? undefined : flow.now + timeoutMs);
    },
    sleep(ms: number) {
      if (!(typeof ms === 'number' && ms >= 0 && ms <= LONGEST_DELAY_MS)) {
        throw invalid(
          `wf.sleep takes milliseconds from 0 to ${LONGEST_DELAY_MS}, not ${shown(ms)}`,
        );
      }
      return flow.ask('sleep', '', { deadline: flow.now + ms }) as Promise<void>;
    },
    sleepUntil(time: Date | number) {
      const at = time instanceof Date ? time.getTime() : time;
      if (!(typeof at === 'number' && Math.abs(at) <= 2 ** 48)) {
        throw invalid(`wf.sleepUntil takes a date or unix milliseconds, not ${shown(time)}`);
      }
      return flow.ask('sleep', '', { deadline: at }) as Promise<void>;
    },
    publish(
      topic: string | Topic<unknown, unknown>,
      value: unknown,
      options: WorkflowPublishOptions = {},
    ) {
      const name = typeof topic === 'string' ? topic : topic?.name;
      if (typeof name !== 'string') throw invalid(`wf.publish takes a topic, not ${shown(topic)}`);
      checkPublishOptions(options);
      const request: PublishRequest = { topic, value, options };
      return flow.ask('publish', name, { request }) as Promise<void>;
    },
    child: (definition: AnyWorkflow, input?: unknown, options?: ChildOptions) =>
      spawn('child', definition, input, options),
    start: (definition: AnyWorkflow, input?: unknown, options?: ChildOptions) =>
      spawn('start', definition, input, options) as Promise<{ name: string; id: string }>,
    // Refused at the line that asks, so that a replay does the same.
    state: (value) => flow.setState(stored(value, 'the value given to wf.state', most)),
    now: () => flow.now,
    random: () => flow.fraction(),
    uuid: () => flow.uuid(),
    changed(patch) {
      checkOperationName(patch);
      return flow.changed(patch);
    },
    continueAsNew: (input) => flow.continueAsNew(input),
  } as WorkflowContext;
  return Object.freeze(context);
}

export type { Message };

function checkOperationName(name: unknown): void {
  if (typeof name === 'string' && name !== '' && name.length <= LONGEST_NAME) return;
  throw invalid(`a name is a text of 1 to ${LONGEST_NAME} characters, not ${shown(name)}`);
}
