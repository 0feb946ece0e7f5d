/**
 * The options of `workflows(...)` and of a start, and what each may be.
 */
import type { Broker } from '../broker/broker.ts';
import { count, invalid, type OptionTable, shown, timeout } from '../client/option-table.ts';
import type { ServiceCaller } from './execution/calls.ts';
import type { ExecutionHost } from './execution/host.ts';
import { checkName } from './journal/keys.ts';
import type { Cause } from './journal/records.ts';
import { type AnyWorkflow, isWorkflow } from './workflow.ts';

export interface WorkflowsOptions {
  /** The workflows that this process executes; without any it only starts, signals and lists instances. */
  readonly definitions?: readonly AnyWorkflow[];
  /** Where journals are, for a broker that has none: `file:./workflows`. Default: the broker. */
  readonly journal?: string | Broker;
  /** Calls other services for `wf.call`; a Service. Default: the broker's registry. */
  readonly service?: ServiceCaller;
  /** The name of this worker in journals. Default: a unique one. */
  readonly worker?: string;
  /** How long a worker may be silent before another takes its instances over. Default 30 000. */
  readonly ackWaitMs?: number;
  /** How long `close` waits for running steps. Default 10 000. */
  readonly drainTimeoutMs?: number;
  /** How often in a row an instance may end its worker without progress before it is parked. Default 5. */
  readonly lives?: number;
  /** `always`, or the share of suspensions after which the code is replayed and compared. Default 0. */
  readonly verify?: 'always' | number;
  /** Largest input, result, signal or message, bytes. Default 8 MiB. */
  readonly maxValueBytes?: number;
}

/** For a service, which records steps as spans, and for tests. */
export interface WorkflowsHooks {
  readonly aroundStep?: ExecutionHost['aroundStep'];
  readonly onCommit?: ExecutionHost['onCommit'];
  readonly onStep?: ExecutionHost['onStep'];
}

export interface StartOptions {
  /** The idempotency key: a second start of the same id starts nothing. Default: a new one. */
  readonly id?: string;
  /** The instance starts at this time, and not before. */
  readonly startAt?: Date | number;
  /** If the id exists, `attach` (the default) returns its handle, and `reject` fails with ALREADY_EXISTS. */
  readonly onExisting?: 'attach' | 'reject';
  /** The message that led to the start. Default: the message that the running code handles. */
  readonly cause?: Cause;
}

export const workflowsTable: OptionTable = {
  definitions: {
    kind: 'other',
    check: (value) => {
      if (!Array.isArray(value) || !value.every(isWorkflow)) {
        throw invalid('definitions is an array of workflows, as workflow(...) makes them');
      }
    },
  },
  journal: { kind: 'other', check: () => {} },
  service: { kind: 'other', check: () => {} },
  worker: { kind: 'text', check: (value) => checkName(value, 'a worker') },
  ackWaitMs: { ...timeout(), min: 100 },
  drainTimeoutMs: timeout(0),
  lives: count(1, 1000),
  verify: {
    kind: 'other',
    check: (value) => {
      if (value === 'always' || (typeof value === 'number' && value >= 0 && value <= 1)) return;
      throw invalid(`verify is "always" or a share from 0 to 1, not ${shown(value)}`);
    },
  },
  maxValueBytes: count(1, 2 ** 29, 'bytes'),
};

export const startTable: OptionTable = {
  id: { kind: 'text' },
  startAt: {
    kind: 'other',
    check: (value, name) => {
      const ms = value instanceof Date ? value.getTime() : value;
      if (typeof ms === 'number' && ms >= 0 && ms <= 2 ** 48) return;
      throw invalid(`${name} is a date or unix milliseconds, not ${shown(value)}`);
    },
  },
  onExisting: { kind: 'one of', values: ['attach', 'reject'] },
  cause: { kind: 'other', check: () => {} },
};
