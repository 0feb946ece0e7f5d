/** The public names of `rivulet/workflow`. */

export { Cancelled, type ErrorRecord, Failure, Terminal, type TerminalOptions } from './errors.ts';
export { type ResultOptions, type SignalOptions, WorkflowHandle } from './handle.ts';
export type { HistoryEvent } from './history.ts';
export type { InstanceInfo } from './instance-info.ts';
export type { ListedRun, ListQuery, WorkflowCounts } from './journal/listing.ts';
export type { WorkflowStatus } from './journal/phase.ts';
export type { Cause } from './journal/records.ts';
export type { Times, WorkflowMetrics } from './metrics.ts';
export type { MoveOptions, MoveReport } from './moving.ts';
export type { ScheduleInfo, ScheduleOptions } from './schedules/schedules.ts';
export {
  type AnyWorkflow,
  type CallOptions as WorkflowCallOptions,
  type ChildOptions,
  type InputOfWorkflow,
  type OutputOfWorkflow,
  type RetryPolicy,
  type Signal,
  type StepContext,
  type StepOptions,
  signal,
  type Workflow,
  type WorkflowContext,
  type WorkflowPublishOptions,
  workflow,
} from './workflow.ts';
export { Workflows, workflows } from './workflows.ts';
export type { StartOptions, WorkflowsOptions } from './workflows-options.ts';
