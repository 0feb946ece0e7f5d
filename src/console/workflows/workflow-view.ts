/**
 * Workflows as the console shows them: counts, instances by name and status, one instance's timeline.
 *
 * Invariants: nothing is opened before the first question, and nothing that is opened takes a task; a page
 * of a timeline reads 500 records, a page of instances begins where the one before ended; what an instance
 * is now is computed again only after its journal grew. Which workflows there are is read again once twenty
 * times as long has passed as reading it took.
 */
import type { Broker } from '../../broker/broker.ts';
import type { JournalStore } from '../../broker/journal.ts';
import { RivuletError } from '../../errors.ts';
import { type HistoryEvent, historyOf } from '../../workflow/history.ts';
import type { InstanceInfo } from '../../workflow/instance-info.ts';
import { checkId, checkName, journalKey } from '../../workflow/journal/keys.ts';
import { countsOfVersions, type ListedRun, pageOfRuns } from '../../workflow/journal/listing.ts';
import { versionsOf } from '../../workflow/journal/names.ts';
import { phaseOf } from '../../workflow/journal/phase.ts';
import { readRecords } from '../../workflow/journal/records.ts';
import { type Workflows, workflows } from '../../workflow/workflows.ts';
import type {
  Verb,
  WorkflowDetail,
  WorkflowEvent,
  WorkflowRow,
  WorkflowsPage,
} from '../api-types.ts';
import type { Masks } from '../messages/mask.ts';

const PAGE = 100;
const EVENTS = 500;
const MOST_CACHED = 100;
const LONGEST_RECORD = 16 * 1024;
/** How much longer the names of workflows are kept than it took to read them. */
const NAMES_KEPT = 20;

export class WorkflowView {
  readonly #broker: () => Promise<Broker>;
  #opened: Promise<Workflows> | null = null;
  /** By name and id: what was computed, and of which record it was the newest. */
  readonly #infos = new Map<string, { readonly last: string; readonly info: InstanceInfo }>();

  #named: {
    readonly versions: ReadonlyMap<string, readonly number[]>;
    readonly until: number;
  } | null = null;

  constructor(broker: () => Promise<Broker>) {
    this.#broker = broker;
  }

  async page(
    query: {
      name: string | null;
      status: 'running' | 'parked' | 'completed' | 'failed' | 'cancelled' | null;
      /** The `next` of the page before. */
      after: string | null;
    },
    masks: Masks,
  ): Promise<WorkflowsPage> {
    const store = await this.#store();
    const { name, status, after } = query;
    if (name !== null) checkName(name);
    const versions = name === null ? await this.#versions(store) : await versionsOf(store, name);
    const counts = await countsOfVersions(store, versions, name !== null);
    const wanted = { limit: PAGE, ...(status === null ? {} : { status }) };
    const names = counts.map((each) => each.name);
    const { runs, next } = await pageOfRuns(store, names, wanted, after);
    return {
      counts: counts.map(({ oldestParkedAt, name: of, running, parked, done, waiting }) => ({
        name: of,
        running,
        parked,
        done,
        oldestParkedAt: oldestParkedAt?.getTime() ?? null,
        waiting,
      })),
      instances: runs.map((run) => rowOf(run, masks)),
      next,
    };
  }

  async #versions(store: JournalStore): Promise<ReadonlyMap<string, readonly number[]>> {
    const from = performance.now();
    if (this.#named !== null && from < this.#named.until) return this.#named.versions;
    const versions = await versionsOf(store);
    const now = performance.now();
    this.#named = { versions, until: now + NAMES_KEPT * (now - from) };
    return versions;
  }

  /** Rejects with NOT_FOUND. */
  async detail(
    name: string,
    id: string,
    after: string | null,
    masks: Masks,
  ): Promise<WorkflowDetail> {
    checkName(name);
    checkId(id);
    const store = await this.#store();
    const key = journalKey(name, id);
    const info = await this.info(name, id);
    const range = after === null ? {} : { after };
    const entries = await store.read(key, { ...range, limit: EVENTS + 1 });
    const shown = entries.slice(0, EVENTS);
    const events = historyOf(readRecords(shown)).map((event) => eventOf(event, masks));
    const first = readRecords(await store.read(key, { limit: 1 }))[0];
    const input = first?.kind === 'start' ? first.data : null;
    const result =
      info.status === 'completed'
        ? valueText(await (await this.open()).get(name, id).result({ timeoutMs: 1000 }), masks)
        : null;
    return {
      name,
      id,
      version: info.version,
      status: info.status,
      startedAt: info.startedAt.getTime(),
      endedAt: info.endedAt?.getTime() ?? null,
      reason: info.reason ?? null,
      events,
      total: info.records,
      next: entries.length > EVENTS ? (shown.at(-1)?.id ?? null) : null,
      waitsFor: waitText(info),
      signals: (info.waitsFor ?? []).flatMap(({ kind, name: of }) =>
        kind === 'signal' ? [of] : [],
      ),
      dueAt: info.dueAt?.getTime() ?? null,
      input: input === null ? null : valueText((input as { input?: unknown }).input, masks),
      result,
      resultText: result?.text ?? null,
      isSchedule: false,
      parked:
        info.status === 'parked'
          ? { reason: info.reason ?? '', difference: info.code ?? null }
          : null,
      verbs: verbsOf(info),
    };
  }

  async info(name: string, id: string): Promise<InstanceInfo> {
    const store = await this.#store();
    const [newest] = await store.read(journalKey(name, id), { limit: 1, newestFirst: true });
    if (newest === undefined) {
      throw new RivuletError('NOT_FOUND', `there is no instance ${JSON.stringify(id)} of ${name}`);
    }
    const key = JSON.stringify([name, id]);
    const known = this.#infos.get(key);
    if (known?.last === newest.id) return known.info;
    const info = await (await this.open()).get(name, id).info();
    this.#infos.delete(key);
    this.#infos.set(key, { last: newest.id, info });
    if (this.#infos.size > MOST_CACHED) {
      this.#infos.delete(this.#infos.keys().next().value as string);
    }
    return info;
  }

  /** Throws FAILED_PRECONDITION where the instance cannot go on with this version now. */
  async checkMove(name: string, id: string, version: number): Promise<void> {
    await this.#movable(name, id, version);
  }

  /** Lets an instance go on with another version's code: its workers then replay its journal. */
  async move(name: string, id: string, version: number): Promise<void> {
    const { last, records } = await this.#movable(name, id, version);
    const handle = (await this.open()).get(name, id);
    if (!(await handle.moveTo(version, last, records))) throw busy(name, id);
  }

  async #movable(name: string, id: string, version: number) {
    const store = await this.#store();
    const entries = await store.read(journalKey(name, id));
    const records = readRecords(entries);
    const last = entries.at(-1)?.id;
    if (last === undefined || records.length === 0) {
      throw new RivuletError('NOT_FOUND', `there is no instance ${JSON.stringify(id)} of ${name}`);
    }
    const phase = phaseOf(records);
    if (phase.version === version) {
      throw new RivuletError('FAILED_PRECONDITION', `${name}/${id} has version ${version} already`);
    }
    if (!phase.asleep && phase.started) throw busy(name, id);
    return { last, records };
  }

  /** Instances that a message has started, of the newest ones of each workflow. */
  async causedBy(topic: string, id: string, since: number, most: number, ms: number) {
    const all = await this.open();
    const store = await this.#store();
    const until = performance.now() + ms;
    const found: { name: string; id: string; status: string }[] = [];
    for await (const run of all.list({ since, limit: most })) {
      if (performance.now() > until) break;
      const [first] = readRecords(await store.read(journalKey(run.name, run.id), { limit: 1 }));
      const cause = first?.kind === 'start' ? first.data.cause : undefined;
      if (cause?.topic === topic && cause.id === id) {
        found.push({ name: run.name, id: run.id, status: run.status });
      }
    }
    return found;
  }

  open(): Promise<Workflows> {
    this.#opened ??= this.#broker()
      .then((broker) => workflows(broker))
      .catch((error: unknown) => {
        this.#opened = null;
        throw error;
      });
    return this.#opened;
  }

  async close(): Promise<void> {
    const opened = await this.#opened?.catch(() => null);
    await opened?.close();
  }

  async #store(): Promise<JournalStore> {
    await this.open();
    const { journal } = await this.#broker();
    if (journal !== undefined) return journal;
    throw new RivuletError('UNSUPPORTED', 'this broker keeps no journals of workflows');
  }
}

function busy(name: string, id: string): RivuletError {
  const text = `a worker has ${name}/${id} now: try again when it waits, or pause it first`;
  return new RivuletError('FAILED_PRECONDITION', text);
}

function eventOf(event: HistoryEvent, masks: Masks): WorkflowEvent {
  const { id, at, kind, name = '', attempt, durationMs, error, value, detail } = event;
  const record = copyOf({ ...detail, ...(value === undefined ? {} : { value }), error });
  // Inputs and results are parts of a record, and a mask names a place in one of them.
  masks.applyWithin(record);
  const parts = [
    name,
    attempt === undefined ? '' : `attempt ${attempt}`,
    durationMs === undefined ? '' : `${durationMs} ms`,
    error === undefined ? '' : error.message,
  ];
  const text = JSON.stringify(record);
  return {
    id,
    at: at.getTime(),
    kind,
    name,
    text: parts.filter(Boolean).join(', '),
    record: text.length > LONGEST_RECORD ? `${text.slice(0, LONGEST_RECORD)}…` : text,
    link: linkOf(detail),
  };
}

/** The message that caused it, as a place of the console. */
function linkOf(detail: Readonly<Record<string, unknown>>): string | null {
  const cause = detail.cause as { topic?: string; id?: string } | undefined;
  if (typeof cause?.topic !== 'string' || typeof cause.id !== 'string') return null;
  return `journey/${encodeURIComponent(cause.topic)}/${cause.id}`;
}

/** `the signal approved, or a time`; null where it waits for nothing. */
function waitText({ position, dueAt, waitsFor = [] }: InstanceInfo): string | null {
  const things = waitsFor.map(({ kind, name }) => `the ${kind} ${name}`);
  if (things.length === 0 && position === 'waiting') things.push('a signal or a child');
  if (dueAt !== undefined) things.push('a time');
  return things.length === 0 ? null : things.join(', or ');
}

function valueText(value: unknown, masks: Masks, indent = 2) {
  if (value === undefined) return null;
  const copy = copyOf({ value });
  const masked = masks.apply((copy as { value: unknown }).value);
  const text = JSON.stringify((copy as { value: unknown }).value, null, indent) ?? '';
  return {
    as: 'json' as const,
    text: text.slice(0, 1024 * 1024),
    cut: text.length > 1024 * 1024,
    error: null,
    masked,
  };
}

function rowOf(run: ListedRun, masks: Masks): WorkflowRow {
  return {
    name: run.name,
    id: run.id,
    version: run.version,
    status: run.status,
    startedAt: run.startedAt.getTime(),
    endedAt: run.at?.getTime() ?? null,
    reason: run.reason ?? null,
    resultText: resultText(run, masks),
    isSchedule: run.schedule === true,
  };
}

/** One line: a small result, or how large it is. */
function resultText({ result, resultBytes }: ListedRun, masks: Masks): string | null {
  if (resultBytes !== undefined) return `${resultBytes} bytes: open the instance`;
  return valueText(result, masks, 0)?.text ?? null;
}

function copyOf(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

function verbsOf({ status }: InstanceInfo): Verb[] {
  if (status === 'running') {
    return [
      'workflow.signal',
      'workflow.cancel',
      'workflow.pause',
      'workflow.fork',
      'workflow.move',
    ];
  }
  const always = ['workflow.cancel', 'workflow.fork', 'workflow.move'] as const;
  if (status === 'paused') return ['workflow.resume', ...always];
  if (status === 'parked') return ['workflow.retry', ...always];
  return ['workflow.retry', 'workflow.fork'];
}
