/**
 * Journals on one Redis server (6.2 and later): a commit is one script.
 *
 * The script does what `EXEC IFLAST` does on Rivulet's server: it compares the last id of each stream with
 * the one that the writer saw, then does everything or nothing. Delayed tasks are stored as delayed
 * messages, and every connected broker moves them when they are due.
 * Invariants: all keys are on one server, so a cluster has no journals. A commit whose reply was lost is
 * sent again; its token in the journal shows whether the first one arrived.
 * Cost: one round trip per commit; one read per watched key every 250 ms.
 */
import {
  committedBefore,
  type JournalCommit,
  type JournalEffect,
  type JournalEntry,
  type JournalRange,
  type JournalReply,
  type JournalStore,
  NO_RECORD,
  type QueueState,
  RivuletError,
  type Scheduler,
  storedFields,
} from 'rivulet/adapter';
import type { Argument, Connection } from './connection.ts';
import { journalScript } from './dialect/journal-script.ts';
import { type Keys, SCHEDULED } from './keys.ts';
import { scanKeys } from './scan.ts';
import { scheduledForm } from './schedule.ts';

const LOOK_EVERY_MS = 250;
const SCANNED = 1000;
/** The prefix of a delayed task's name, as on Rivulet's server. */
const LATER = 's';

interface Watched {
  last: string | null;
  readonly listeners: Set<() => void>;
}

export interface RedisJournalSetup {
  readonly connection: () => Connection;
  readonly keys: () => Keys;
  readonly scheduler: Scheduler;
  readonly consume: JournalStore['consume'];
  /** Repeats `work` during an outage. */
  readonly withRetry: <T>(what: string, work: () => Promise<T>) => Promise<T>;
}

export class RedisJournal implements JournalStore {
  readonly #setup: RedisJournalSetup;
  readonly consume: JournalStore['consume'];
  readonly #watched = new Map<string, Watched>();
  #cancelLook: (() => void) | null = null;
  #closed = false;

  constructor(setup: RedisJournalSetup) {
    this.#setup = setup;
    this.consume = setup.consume;
  }

  read(key: string, range: JournalRange = {}): Promise<JournalEntry[]> {
    const { after, from, limit, newestFirst } = range;
    const start = after === undefined ? (from ?? '-') : `(${after}`;
    const bounds: Argument[] = newestFirst === true ? ['+', start] : [start, '+'];
    const count: Argument[] = limit === undefined ? [] : ['COUNT', limit];
    const command = newestFirst === true ? 'XREVRANGE' : 'XRANGE';
    return this.#withRetry(`read ${key}`, async (connection) => {
      const rows = await connection.call(command, key, ...bounds, ...count);
      return (rows as [Buffer, Buffer[]][]).map(([id, fields]) => ({
        id: id.toString(),
        fields: fieldsOf(fields),
      }));
    });
  }

  length(key: string): Promise<number> {
    return this.#withRetry(`read ${key}`, async (to) => Number(await to.call('XLEN', key)));
  }

  commit(commit: JournalCommit): Promise<JournalReply | null> {
    const { key, last, records, also = [], restart, effects = [], token } = commit;
    const { blobs, place } = places();
    const plan = {
      if: [[key, last], ...also.map((other) => [other.key, other.last])],
      key,
      records: records.map((record) => place(storedFields(record, token))),
      keep: restart === true ? records.length : 0,
      effects: effects.map((effect) => this.#planOf(effect, place)),
    };
    let isKnown = true;
    return this.#withRetry(`commit to ${key}`, async (connection) => {
      let reply: unknown;
      try {
        reply = await connection.evaluate(journalScript, JSON.stringify(plan), ...blobs);
      } catch (error) {
        // The server may have executed it.
        isKnown = false;
        throw error;
      }
      if (reply === null) {
        if (isKnown) return null;
        const after = last === NO_RECORD ? {} : { after: last };
        return committedBefore(commit, await this.read(key, after));
      }
      const said = (reply as Buffer[]).map(String);
      this.#look();
      return {
        ids: said.slice(0, records.length),
        added: said.slice(records.length).map((each) => (each === '' ? null : each)),
      };
    });
  }

  async apply(effects: readonly JournalEffect[]): Promise<void> {
    if (effects.length === 0) return;
    const { blobs, place } = places();
    const plan = {
      if: [],
      key: '',
      records: [],
      keep: 0,
      effects: effects.map((effect) => this.#planOf(effect, place)),
    };
    await this.#withRetry('settle tasks', (connection) =>
      connection.evaluate(journalScript, JSON.stringify(plan), ...blobs),
    );
  }

  async watch(key: string, listener: () => void): Promise<() => void> {
    const present = this.#watched.get(key);
    const watched: Watched = present ?? { last: null, listeners: new Set() };
    if (present === undefined) {
      watched.last = await this.#lastOf(key);
      this.#watched.set(key, watched);
    }
    watched.listeners.add(listener);
    this.#arm();
    return () => {
      watched.listeners.delete(listener);
      if (watched.listeners.size === 0 && this.#watched.get(key) === watched) {
        this.#watched.delete(key);
      }
    };
  }

  async keys(pattern: string): Promise<string[]> {
    const found = new Set<string>();
    const page = (cursor: string) =>
      this.#withRetry('list journals', (connection) =>
        connection.call('SCAN', cursor, 'MATCH', pattern, 'TYPE', 'stream', 'COUNT', SCANNED),
      );
    await scanKeys(page, (key) => found.add(key));
    return [...found].sort();
  }

  queue(key: string, group: string): Promise<QueueState | null> {
    return this.#withRetry(`read ${key}`, async (connection) => {
      if ((await connection.call('EXISTS', key)) === 0) return null;
      const groups = (await connection.call('XINFO', 'GROUPS', key)) as (
        | Buffer
        | number
        | null
      )[][];
      for (const row of groups) {
        const fact = (name: string) => row[row.findIndex((each) => String(each) === name) + 1];
        if (String(fact('name')) !== group) continue;
        const isNew = row.some((each) => String(each) === 'lag');
        const lag = isNew ? fact('lag') : null;
        return {
          waiting: typeof lag === 'number' ? lag : null,
          pending: Number(fact('pending')),
        };
      }
      return null;
    });
  }

  async remove(keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return;
    const schedules = keys.map((key) => this.#setup.keys().schedule(key));
    await this.#withRetry('remove journals', (to) => to.call('DEL', ...keys, ...schedules));
    this.#look();
  }

  close(): void {
    this.#closed = true;
    this.#cancelLook?.();
    this.#watched.clear();
  }

  #planOf(
    effect: JournalEffect,
    place: (fields: readonly (string | Uint8Array)[]) => number[],
  ): object {
    const keys = this.#setup.keys();
    switch (effect.kind) {
      case 'add': {
        const { key, fields, at, delayMs, onlyIfThere, dropBefore } = effect;
        const isLater = at !== undefined || delayMs !== undefined;
        const form = isLater ? scheduledForm(fields as Uint8Array[], null).form : null;
        return {
          kind: 'add',
          key,
          at: place(fields),
          there: onlyIfThere === true,
          ...(dropBefore === undefined ? {} : { drop: dropBefore }),
          ...(form === null
            ? {}
            : {
                later: place([form]),
                schedule: keys.schedule(key),
                scheduled: SCHEDULED,
                due: at === undefined ? -1 : Math.ceil(at),
                delay: Math.ceil(delayMs ?? 0),
              }),
        };
      }
      case 'delete':
        return { kind: 'delete', key: effect.key, at: place(effect.ids) };
      case 'ack':
        return { kind: 'ack', key: effect.key, at: place([effect.group, effect.id]) };
      case 'unschedule': {
        const member = Buffer.from(effect.name.slice(LATER.length), 'base64');
        return { kind: 'zrem', key: keys.schedule(effect.key), at: place([member]) };
      }
      case 'expire':
        return {
          kind: 'expire',
          key: effect.key,
          ms: effect.afterMs === null ? -1 : Math.ceil(effect.afterMs),
        };
    }
  }

  #withRetry<T>(what: string, work: (connection: Connection) => Promise<T>): Promise<T> {
    return this.#setup.withRetry(what, () => work(this.#setup.connection()));
  }

  async #lastOf(key: string): Promise<string> {
    const [newest] = await this.read(key, { newestFirst: true, limit: 1 });
    return newest?.id ?? NO_RECORD;
  }

  #arm(): void {
    if (this.#cancelLook !== null || this.#watched.size === 0 || this.#closed) return;
    this.#cancelLook = this.#setup.scheduler.after(LOOK_EVERY_MS, () => {
      this.#cancelLook = null;
      this.#look();
      this.#arm();
    });
  }

  #look(): void {
    for (const [key, watched] of this.#watched) {
      void this.#lastOf(key).then(
        (last) => {
          if (last === watched.last) return;
          watched.last = last;
          for (const listener of [...watched.listeners]) listener();
        },
        (error) => {
          // During an outage the connection reports it.
          if (error instanceof RivuletError && error.code === 'CLOSED') this.#watched.delete(key);
        },
      );
    }
  }
}

/** Collects the arguments after the plan, and the position of each list of them. */
function places() {
  const blobs: Argument[] = [];
  const place = (fields: readonly (string | Uint8Array)[]): number[] => {
    const from = blobs.length + 2;
    for (const field of fields) {
      if (typeof field === 'string') blobs.push(field);
      else blobs.push(Buffer.from(field.buffer, field.byteOffset, field.byteLength));
    }
    return [from, fields.length];
  };
  return { blobs, place };
}

function fieldsOf(raw: readonly Buffer[]): Record<string, string> {
  const fields: Record<string, string> = Object.create(null);
  for (let i = 0; i + 1 < raw.length; i += 2) fields[String(raw[i])] = String(raw[i + 1]);
  return fields;
}
