/**
 * The writing side of one instance's journal: conditional commits on the last id seen.
 *
 * Invariants: one commit at a time; a refused commit takes in what others have written before it is tried
 * again; a record of another worker is Fenced, a journal that is gone Lost. A record that was applied before
 * others wrote names the record that it follows. Cost: one exchange with the broker for each commit, one
 * read after a refusal.
 */
import type { JournalReply } from '../../broker/journal.ts';
import { RivuletError } from '../../errors.ts';
import { damaged, Refusals, recordOfError } from '../errors.ts';
import { journalKey } from '../journal/keys.ts';
import {
  compareIds,
  fieldsOf,
  isWorkers,
  type JournalRecord,
  type Marks,
  millisecondsOf,
  type Note,
  type RecordKind,
  type Records,
  readRecords,
} from '../journal/records.ts';
import type { AnyWorkflow } from '../workflow.ts';
import { Mismatch } from './asked-operations.ts';
import type { Flow } from './flow.ts';
import { type ExecutionHost, Fenced, Gone, type Item, Lost } from './host.ts';

export interface JournalWriterSetup {
  readonly host: ExecutionHost;
  readonly definition: AnyWorkflow;
  readonly id: string;
  /** Begins the token of every commit of this life of the instance. */
  readonly prefix: string;
  /** The newest record with which this life begins. */
  readonly base: string;
  readonly flow: () => Flow;
  readonly isDead: () => boolean;
  /** Receives what is left of a commit that was refused, where the code does not follow what others have written. */
  readonly putBack: (items: readonly Item[]) => void;
  /** Called with each record that others have written. */
  readonly onForeign: (record: JournalRecord) => void;
}

export interface CommitOptions {
  /**
   * Receives what is left when others have written meanwhile: that has been applied, and the caller
   * decides again. Without it the commit is tried again.
   */
  readonly reconsider?: (left: readonly Item[]) => void;
  /** The record begins the journal again. */
  readonly restart?: boolean;
  /** Nothing is applied to the flow. */
  readonly blind?: boolean;
}

export class JournalWriter {
  readonly #setup: JournalWriterSetup;
  readonly #key: string;
  #commits = 0;
  #last: string;
  /** When the newest record was learned, monotonic ms. */
  #learnedAt = 0;

  constructor(setup: JournalWriterSetup) {
    this.#setup = setup;
    this.#key = journalKey(setup.definition.name, setup.id);
    this.#last = setup.base;
    this.learned(setup.base);
  }

  /** The newest id that this worker knows. */
  get last(): string {
    return this.#last;
  }

  learned(id: string): void {
    this.#last = id;
    this.#learnedAt = this.#setup.host.scheduler.monotonic();
  }

  token(): string {
    return `${this.#setup.prefix}${this.#commits++}`;
  }

  /** The broker's time as this process knows it, Unix ms. */
  get now(): number {
    const passed = this.#setup.host.scheduler.monotonic() - this.#learnedAt;
    return Math.max(this.#setup.flow().now, millisecondsOf(this.#last) + passed);
  }

  /** Commits, and applies what was committed. Null where nothing is wanted any more, or left. */
  async commit(
    items: readonly Item[],
    { reconsider, restart = false, blind = false }: CommitOptions = {},
  ): Promise<JournalReply | null> {
    const { host, isDead } = this.#setup;
    const { store, onCommit } = host;
    const flow = this.#setup.flow();
    let wanted = eachStartedOnce(statesLast(items));
    for (const refusals = new Refusals(); ; ) {
      // What the code no longer waits for is not done.
      wanted = wanted.filter((item) => this.#isWanted(item));
      if (wanted.length === 0) return null;
      const noted = wanted.findIndex(({ applied }) => applied !== true);
      // What was asked for after the last of them goes with a record that is applied after it.
      const { notes, cut } = restart || noted < 0 ? NO_NOTES : notesFor(wanted, flow.notes, blind);
      const withNotes = ({ data }: Item, i: number) => ({
        ...(data as object),
        ...(i === noted && notes.length > 0 ? { o: notes, ...cut } : {}),
        ...(restart ? {} : this.#marks(wanted, i)),
      });
      const token = this.token();
      const also = wanted.flatMap((item) => item.also ?? []);
      const kinds = wanted.map(({ kind }) => kind);
      await onCommit?.('before', kinds);
      if (isDead()) throw new Gone();
      const reply = await store.commit({
        key: this.#key,
        last: this.#last,
        records: wanted.map((item, i) => {
          const fields = fieldsOf(item.kind, withNotes(item, i) as never, item.at);
          const { after } = item;
          return after === undefined || after === this.#last ? fields : { ...fields, after };
        }),
        token,
        ...(restart ? { restart } : {}),
        ...(also.length === 0 ? {} : { also }),
        effects: wanted.flatMap((item) => item.effects ?? []),
      });
      if (reply !== null) await onCommit?.('after', kinds);
      if (isDead()) throw new Gone();
      if (reply !== null) {
        flow.notes.splice(0, notes.length);
        this.learned(reply.ids.at(-1) as string);
        if (blind || restart) return reply;
        for (const [i, item] of wanted.entries()) {
          if (item.applied === true) continue;
          const id = reply.ids[i] as string;
          await flow.apply(recordOf(id, token, item.kind, withNotes(item, i)));
        }
        return reply;
      }
      const isChanged = await this.readTail(blind).catch((error) => {
        if (error instanceof Mismatch) this.#setup.putBack(wanted);
        throw error;
      });
      if (!isChanged) {
        if (refusals.isHopeless(this.#last)) throw new Lost(damaged(this.#key, this.#last).message);
        if (also.length > 0) wanted = await this.#resolveSpawns(wanted);
      }
      if (reconsider !== undefined) {
        reconsider(wanted);
        return null;
      }
    }
  }

  /** Takes in what others have written; false when that is nothing. */
  async readTail(blind = false): Promise<boolean> {
    const { host, isDead, onForeign, flow } = this.#setup;
    const entries = await host.store.read(this.#key, { after: this.#last });
    if (isDead()) throw new Gone();
    if (entries.length === 0) {
      const newest = await host.store.read(this.#key, { newestFirst: true, limit: 1 });
      if (newest[0]?.id !== this.#last) throw newest.length === 0 ? new Lost() : new Fenced();
      return false;
    }
    const records = readRecords(entries);
    if (records.some((record) => this.isAnothers(record))) throw new Fenced();
    for (const record of records) {
      this.learned(record.id);
      onForeign(record);
      if (!blind) await flow().apply(record);
    }
    this.learned((entries.at(-1) as { id: string }).id);
    return true;
  }

  /** Whether another worker has written the record, or given the instance to another life. */
  isAnothers({ id, kind, token }: JournalRecord): boolean {
    const { base, prefix } = this.#setup;
    if (compareIds(id, base) <= 0 || token.startsWith(prefix)) return false;
    return kind === 'again' || kind === 'move' || kind === 'start' || isWorkers(kind);
  }

  /** What the i-th record of a commit says about those before it. */
  #marks(items: readonly Item[], i: number): Marks {
    const { definition } = this.#setup;
    const flow = this.#setup.flow();
    const { data, kind } = items[i] as Item;
    const given = (data as Marks).st;
    // States are the last records of their commit.
    const st = given ?? flow.stateAt;
    return {
      ...(definition.version === flow.start.v ? {} : { ver: definition.version }),
      ...(st === null || kind === 'state' ? {} : { st }),
      ...(flow.paused ? { p: 1 } : {}),
    };
  }

  #isWanted({ kind, data }: Item): boolean {
    if (kind !== 'publish' && kind !== 'spawn') return true;
    return this.#setup.flow().pending.has((data as { n: number }).n);
  }

  /** A child is there already: this instance's, or another's of that id. */
  async #resolveSpawns(items: readonly Item[]): Promise<Item[]> {
    const { host, definition, id: parentId, flow } = this.#setup;
    const run = flow().start.run ?? 0;
    return Promise.all(
      items.map(async (item) => {
        if (item.kind !== 'spawn' || item.also === undefined) return item;
        const { n, name, id } = item.data as Records['spawn'];
        const found = await host.store.read(journalKey(name, id), { limit: 1 });
        const [start] = readRecords(found);
        if (start === undefined) return item;
        const parent = start.kind === 'start' ? start.data.parent : undefined;
        const isOurs =
          parent?.name === definition.name &&
          parent.id === parentId &&
          parent.by === n &&
          (parent.run ?? 0) === run;
        if (isOurs) return { kind: 'spawn', data: item.data };
        const text = `there is an instance ${name}/${id} already, and it is no child of this one`;
        const e = recordOfError(new RivuletError('ALREADY_EXISTS', text));
        return { kind: 'spawn', data: { n, name, id, e } };
      }),
    );
  }
}

interface Notes {
  readonly notes: readonly Note[];
  /** Operations from this number on are not among them, though the code may have asked for them. */
  readonly cut?: { readonly cut: number };
}

const NO_NOTES: Notes = { notes: [] };

/**
 * What the first record of a commit notes. Where the code goes no further (`blind`), that is what it had asked for
 * until the last of the operations that have a record: what it asked for later may be wrong.
 */
function notesFor(items: readonly Item[], asked: readonly Note[], blind: boolean): Notes {
  if (!blind) return { notes: [...asked] };
  const numbers = items.map(({ kind, data }) => (kind === 'parked' ? 0 : numberIn(data)));
  const newest = Math.max(...numbers);
  const notes = asked.filter(([n]) => n <= newest);
  return notes.length === asked.length ? { notes } : { notes, cut: { cut: newest + 1 } };
}

function numberIn(data: unknown): number {
  return (data as { n?: number }).n ?? 0;
}

/** So that no record of the commit has to name one whose id is not known yet. */
function statesLast(items: readonly Item[]): readonly Item[] {
  if (!items.some(({ kind }) => kind === 'state')) return items;
  const isState = ({ kind }: Item) => kind === 'state';
  return [...items.filter((item) => !isState(item)), ...items.filter(isState)];
}

/** Of starts of one id in one commit the second one fails. */
function eachStartedOnce(items: readonly Item[]): readonly Item[] {
  const ids = new Set<string>();
  return items.map((item) => {
    if (item.kind !== 'spawn' || item.also === undefined) return item;
    const { n, name, id } = item.data as Records['spawn'];
    const key = journalKey(name, id);
    if (!ids.has(key)) {
      ids.add(key);
      return item;
    }
    const text = `there is an instance ${name}/${id} already: this one has just started it`;
    const e = recordOfError(new RivuletError('ALREADY_EXISTS', text));
    return { kind: 'spawn', data: { n, name, id, e } };
  });
}

export function recordOf(
  id: string,
  token: string,
  kind: RecordKind,
  data: unknown,
  at = millisecondsOf(id),
): JournalRecord {
  return { id, at, token, kind, data } as JournalRecord;
}
