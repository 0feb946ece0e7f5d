/**
 * Where an instance is, as `handle.info()` returns it.
 */
import type { JournalStore } from '../broker/journal.ts';
import { notFound } from './errors.ts';
import { journalKey } from './journal/keys.ts';
import type { WorkflowStatus } from './journal/phase.ts';
import { type Standing, type StartEntry, standingOf, startIn } from './journal/standing.ts';

export interface InstanceInfo {
  readonly name: string;
  readonly id: string;
  readonly version: number;
  readonly status: WorkflowStatus;
  readonly startedAt: Date;
  readonly endedAt?: Date;
  /** Records in its journal. */
  readonly records: number;
  /** For a running one: `delivered` (a worker has it or will), `due` at a time, `waiting` for a signal or a child. */
  readonly position?: 'delivered' | 'due' | 'waiting';
  readonly dueAt?: Date;
  /** The signals and children that it waits for, ten at most; those of older journals are not known. */
  readonly waitsFor?: readonly { readonly kind: 'signal' | 'child'; readonly name: string }[];
  /** Of a parked, failed or cancelled one. */
  readonly reason?: string;
  readonly code?: string;
  /** The worker that wrote last. */
  readonly worker?: string;
}

/** Three or four reads. Rejects with NOT_FOUND. */
export async function readInfo(
  store: JournalStore,
  name: string,
  id: string,
): Promise<InstanceInfo> {
  const key = journalKey(name, id);
  const [standing, first, records] = await Promise.all([
    standingOf(store, key),
    startIn(store, key),
    store.length(key),
  ]);
  if (standing === null || first === null) throw notFound(name, id);
  return infoOf(name, id, standing, first, records);
}

function infoOf(
  name: string,
  id: string,
  { phase, base }: Standing,
  first: StartEntry,
  records: number,
): InstanceInfo {
  const { end, parked, status } = phase;
  const dueAt =
    base.kind === 'suspend' ? base.data.at : base.kind === 'start' ? first.data.startAt : undefined;
  const rests = status === 'running' && (phase.asleep || !phase.started) && !phase.news;
  const position =
    rests && dueAt !== undefined ? 'due' : rests && phase.started ? 'waiting' : 'delivered';
  const failed = end !== null && end.status !== 'completed' ? end.error : undefined;
  const reason = parked?.why ?? failed?.message;
  const code = parked?.code ?? failed?.code;
  const worker = workerOf(base.token);
  return {
    name,
    id,
    version: phase.version || first.data.v,
    status,
    startedAt: new Date(first.data.first ?? first.at),
    records,
    ...(end === null ? {} : { endedAt: new Date(base.at) }),
    ...(status === 'running' ? { position } : {}),
    ...(position === 'due' && dueAt !== undefined ? { dueAt: new Date(dueAt) } : {}),
    ...(rests && base.kind === 'suspend' && base.data.on !== undefined
      ? { waitsFor: base.data.on }
      : {}),
    ...(reason === undefined ? {} : { reason }),
    ...(code === undefined ? {} : { code }),
    ...(worker === null ? {} : { worker }),
  };
}

/** The name in the token of a worker's commit. */
function workerOf(token: string): string | null {
  return /^w-(.+)\.\d+:/.exec(token)?.[1] ?? null;
}
