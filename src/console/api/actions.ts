/** Actions: the request, its dry run, its outcome, and the jobs that long ones become. */

export type Verb =
  | 'pending.deliver'
  | 'pending.giveBack'
  | 'pending.claim'
  | 'pending.deadLetter'
  | 'pending.acknowledge'
  | 'dead.redrive'
  | 'dead.edit'
  | 'dead.delete'
  | 'topic.publish'
  | 'topic.schedule'
  | 'topic.cancelScheduled'
  | 'topic.retention'
  | 'topic.delete'
  | 'group.create'
  | 'group.replay'
  | 'group.policy'
  | 'group.delete'
  | 'workflow.signal'
  | 'workflow.cancel'
  | 'workflow.pause'
  | 'workflow.resume'
  | 'workflow.retry'
  | 'workflow.fork'
  | 'workflow.move'
  | 'service.call'
  | 'service.dropNode'
  | 'server.killClient'
  | 'server.config'
  | 'server.acl';

/** What an action is about; which parts it needs depends on the verb. */
export interface ActionTarget {
  readonly topic?: string;
  readonly group?: string;
  /** Messages, of one topic or group; or `all` for every one that `where` lets through. */
  readonly ids?: readonly string[];
  readonly all?: boolean;
  readonly where?: string;
  readonly workflow?: string;
  readonly instance?: string;
  readonly service?: string;
  readonly node?: string;
  readonly client?: string;
  readonly number?: string;
}

/** First call: `dryRun: true` with target and options. Second: `token` and reason. */
export interface ActionRequest {
  readonly dryRun?: boolean;
  readonly target?: ActionTarget;
  /** Of the verb: `delayMs`, `consumer`, `reason`, `body`, `headers`, `key`, `at`, `from`, ... */
  readonly options?: Readonly<Record<string, unknown>>;
  readonly token?: string;
  readonly reason?: string;
  /** The name that `confirm` asked for. */
  readonly confirm?: string;
}

export interface ActionPlan {
  readonly token: string;
  readonly expiresAt: number;
  readonly verb: Verb;
  readonly count: number;
  /** The first five, one line each. */
  readonly first: readonly string[];
  readonly impossible: readonly { readonly what: string; readonly why: string }[];
  /** The name that has to be typed; null = none. */
  readonly confirm: string | null;
  /** It can be undone by another action. */
  readonly reversible: boolean;
  readonly summary: string;
}

export interface ActionOutcome {
  readonly done: number;
  readonly failed: readonly { readonly what: string; readonly why: string }[];
  /** Ids of what was made: published messages, redriven ones. */
  readonly made: readonly string[];
  /** Set when it goes on in the background. */
  readonly job: Job | null;
}

export interface Job {
  readonly id: string;
  readonly verb: Verb;
  readonly summary: string;
  readonly user: string;
  readonly state: 'running' | 'done' | 'failed' | 'stopped';
  readonly total: number;
  readonly done: number;
  /** How many failed; the first 100 are listed. */
  readonly failed: number;
  readonly failures: readonly { readonly what: string; readonly why: string }[];
  readonly startedAt: number;
  readonly endedAt: number | null;
}
