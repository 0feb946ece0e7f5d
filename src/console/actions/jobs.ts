/**
 * Actions on many things, in steps of 1000, in the background.
 *
 * Holds: the jobs that run and the last 100 that ended.
 * Invariants: a job that is stopped ends between two things; a failure of one is listed (100 of them) and
 * ends no job; at most 10 run at a time.
 * Cost: between two steps the loop serves its clients.
 */
import { randomUUID } from 'node:crypto';
import { RivuletError } from '../../errors.ts';
import type { Job, Verb } from '../api-types.ts';
import type { Plan } from './plan.ts';

const STEP = 1000;
const AT_ONCE = 50;
const MOST_KEPT = 100;
const MOST_RUNNING = 10;
const MOST_FAILURES = 100;

interface Running {
  job: Job;
  isStopped: boolean;
}

export interface Done {
  readonly done: number;
  readonly failed: { what: string; why: string }[];
  readonly failures: number;
  readonly made: string[];
}

export class Jobs {
  readonly #jobs = new Map<string, Running>();
  #isClosed = false;

  /** Throws LIMIT_EXCEEDED. `ended` is called once, with the last state. */
  start(plan: Plan, verb: Verb, user: string, ended: (job: Job) => Promise<void>): Job {
    const running = [...this.#jobs.values()].filter(({ job }) => job.state === 'running');
    if (running.length >= MOST_RUNNING) {
      throw new RivuletError('LIMIT_EXCEEDED', `${MOST_RUNNING} jobs are running already`);
    }
    const job: Job = {
      id: randomUUID(),
      verb,
      summary: plan.summary,
      user,
      state: 'running',
      total: plan.items.length,
      done: 0,
      failed: 0,
      failures: [],
      startedAt: Date.now(),
      endedAt: null,
    };
    const entry: Running = { job, isStopped: false };
    this.#jobs.set(job.id, entry);
    for (const [id, { job: old }] of this.#jobs) {
      if (this.#jobs.size <= MOST_KEPT) break;
      if (old.state !== 'running') this.#jobs.delete(id);
    }
    void this.#run(entry, plan).then(() => ended(entry.job));
    return job;
  }

  list(user: string | null): Job[] {
    return [...this.#jobs.values()]
      .map(({ job }) => job)
      .filter((job) => user === null || job.user === user)
      .reverse();
  }

  find(id: string, user: string | null): Job {
    const found = this.#jobs.get(id)?.job;
    if (found !== undefined && (user === null || found.user === user)) return found;
    throw new RivuletError('NOT_FOUND', 'there is no such job');
  }

  stop(id: string, user: string | null): Job {
    const job = this.find(id, user);
    this.#jobs.get(id)!.isStopped = true;
    return job;
  }

  close(): void {
    this.#isClosed = true;
  }

  async #run(entry: Running, plan: Plan): Promise<void> {
    const { items } = plan;
    for (let at = 0; at < items.length; at += STEP) {
      if (entry.isStopped || this.#isClosed) break;
      const stopped = () => entry.isStopped || this.#isClosed;
      const { done, failed, failures } = await runItems(plan, items.slice(at, at + STEP), stopped);
      const { job } = entry;
      entry.job = {
        ...job,
        done: job.done + done,
        failed: job.failed + failures,
        failures: [...job.failures, ...failed].slice(0, MOST_FAILURES),
      };
      await new Promise((resolve) => setImmediate(resolve));
    }
    const { job } = entry;
    const isWhole = job.done + job.failed === job.total;
    const state = !isWhole ? 'stopped' : job.done === 0 && job.failed > 0 ? 'failed' : 'done';
    entry.job = { ...job, state, endedAt: Date.now() };
  }
}

export async function runItems(
  plan: Plan,
  items: readonly string[],
  stopped: () => boolean = () => false,
): Promise<Done> {
  const failed: { what: string; why: string }[] = [];
  const made: string[] = [];
  let [done, failures] = [0, 0];
  for (let at = 0; at < items.length; at += AT_ONCE) {
    if (stopped()) break;
    await Promise.all(
      items.slice(at, at + AT_ONCE).map(async (item) => {
        try {
          const id = await plan.run(item);
          if (id !== null) made.push(id);
          done++;
        } catch (error) {
          failures++;
          if (failed.length < MOST_FAILURES) {
            failed.push({ what: item, why: (error as Error).message });
          }
        }
      }),
    );
  }
  return { done, failed, failures, made };
}
