/**
 * Readers waiting for keys, in arrival order.
 *
 * Invariant: when several readers wait on a key they are tried in the order in which they came; one
 * that is tried and still has nothing keeps its place (Redis 7.2: the command is executed again).
 * KeyEntry.readers is the number of readers of an existing key.
 * Cost: a signal is O(1); the work of one `settle` is bounded by the number of readers that waited
 * when it began: a quick look at each, and a command for those that it may serve. Source: Redis's blocked.c.
 */

import { DeadlineHeap, type Timed } from '../schedule/deadline-heap.ts';
import type { KeyEntry } from './key-entry.ts';

const NEVER = Number.POSITIVE_INFINITY;

/** The database of a reader: names the line of a key, and knows whether the key is there. */
export interface KeyLookup {
  peekKey(key: Uint8Array): KeyEntry | undefined;
}

export interface BlockedReader {
  readonly database: KeyLookup;
  readonly keys: readonly Buffer[];
  /** Monotonic ms; Infinity = no deadline. */
  readonly deadline: number;
  /**
   * Monotonic ms at which to try again although no key was signalled; absent or Infinity = never. Read
   * when the reader is added and after each try.
   */
  readonly wakeAt?: number | undefined;
  /**
   * A quick look, without a change: false when `retry` would find nothing to do. It may set `wakeAt`.
   * Absent = unknown.
   */
  ready?(): boolean;
  /** Tries again; true = done (served or failed), the reader is then forgotten. */
  retry(): boolean;
  timedOut(): void;
}

/** A reader's place in the queues of its keys. */
interface Waiter extends Timed {
  readonly reader: BlockedReader;
  waiting: boolean;
}

/** The readers of one key, in order of arrival, and whether the key has been signalled. */
interface KeyQueue {
  readonly tickets: Set<Waiter>;
  ready: boolean;
}

export class BlockedReaders {
  private readonly tickets = new Map<BlockedReader, Waiter>();
  private readonly lines = new Map<KeyLookup, Map<string, KeyQueue>>();
  private readonly deadlines = new DeadlineHeap<Waiter>();
  private ready: KeyQueue[] = [];

  get size(): number {
    return this.tickets.size;
  }

  add(reader: BlockedReader): void {
    const ticket = { reader, waiting: true, expireAt: NEVER, heapIndex: -1 };
    this.tickets.set(reader, ticket);
    this.schedule(ticket);
    let lines = this.lines.get(reader.database);
    if (lines === undefined) {
      lines = new Map();
      this.lines.set(reader.database, lines);
    }
    for (const key of reader.keys) {
      const name = key.toString('latin1');
      let line = lines.get(name);
      if (line === undefined) {
        line = { tickets: new Set(), ready: false };
        lines.set(name, line);
      }
      if (line.tickets.has(ticket)) continue;
      line.tickets.add(ticket);
      const entry = reader.database.peekKey(key);
      if (entry !== undefined) entry.readers++;
    }
  }

  remove(reader: BlockedReader): void {
    const ticket = this.tickets.get(reader);
    if (ticket === undefined) return;
    this.tickets.delete(reader);
    ticket.waiting = false;
    this.deadlines.remove(ticket);
    const lines = this.lines.get(reader.database);
    if (lines === undefined) return;
    for (const key of reader.keys) {
      const name = key.toString('latin1');
      const line = lines.get(name);
      if (line === undefined || !line.tickets.delete(ticket)) continue;
      const entry = reader.database.peekKey(key);
      if (entry !== undefined) entry.readers--;
      if (line.tickets.size === 0) lines.delete(name);
    }
    if (lines.size === 0) this.lines.delete(reader.database);
  }

  /** Tries one reader again, out of turn: it may have waited for room in its own output buffer. */
  retryNow(reader: BlockedReader): void {
    const ticket = this.tickets.get(reader);
    if (ticket !== undefined) this.retry(ticket);
  }

  /** Puts a reader last in its lines: it has had something, others come first next time. */
  moveToEnd(reader: BlockedReader): void {
    const ticket = this.tickets.get(reader);
    if (ticket === undefined) return;
    for (const key of reader.keys) {
      const line = this.lines.get(reader.database)?.get(key.toString('latin1'));
      if (line?.tickets.delete(ticket)) line.tickets.add(ticket);
    }
  }

  /** How many readers wait for this key. */
  count(database: KeyLookup, key: Buffer): number {
    if (this.tickets.size === 0) return 0;
    return this.lines.get(database)?.get(key.toString('latin1'))?.tickets.size ?? 0;
  }

  /** How many keys are waited for, in all databases. */
  get keyCount(): number {
    let count = 0;
    for (const lines of this.lines.values()) count += lines.size;
    return count;
  }

  /** The keys of a database that readers wait for. */
  keys(database: KeyLookup): Buffer[] {
    const lines = this.lines.get(database);
    return lines === undefined ? [] : [...lines.keys()].map((name) => Buffer.from(name, 'latin1'));
  }

  /** A key changed in a way that could serve or fail a reader; cheap when no reader waits for it. */
  signal(database: KeyLookup, key: Buffer): void {
    if (this.tickets.size === 0) return;
    const line = this.lines.get(database)?.get(key.toString('latin1'));
    if (line !== undefined) this.signalQueue(line);
  }

  signalAll(database: KeyLookup): void {
    const lines = this.lines.get(database);
    if (lines !== undefined) for (const line of lines.values()) this.signalQueue(line);
  }

  /** Tries the readers of every signalled key, in the order of the signals. */
  serve(): void {
    if (this.ready.length === 0) return;
    // A reader that is served may change a key that others wait for; each such round but the last
    // has served a reader, so their number is bounded.
    for (let rounds = this.tickets.size + 1; rounds > 0 && this.ready.length > 0; rounds--) {
      const ready = this.ready;
      this.ready = [];
      for (const line of ready) {
        line.ready = false;
        for (const ticket of [...line.tickets]) {
          if (ticket.waiting) this.retry(ticket);
        }
      }
    }
  }

  /** Ends the waits whose deadline has come (`now` in monotonic ms) and tries those that asked to be woken. */
  expire(now: number): void {
    // One look at each: a reader that wants to be woken again at once has to wait for the next call.
    for (let looks = this.deadlines.size; looks > 0; looks--) {
      const ticket = this.deadlines.first();
      if (ticket === undefined || ticket.expireAt > now) return;
      if (ticket.reader.deadline > now) {
        this.retry(ticket);
      } else {
        this.remove(ticket.reader);
        ticket.reader.timedOut();
      }
    }
  }

  nextDeadline(): number {
    return this.deadlines.first()?.expireAt ?? Number.POSITIVE_INFINITY;
  }

  private retry(ticket: Waiter): void {
    const { reader } = ticket;
    const isDone = reader.ready?.() !== false && reader.retry();
    if (isDone) this.remove(reader);
    else if (ticket.reader.wakeAt !== undefined) this.schedule(ticket);
  }

  /** Enters the ticket for its deadline or its wake-up, whichever comes first. */
  private schedule(ticket: Waiter): void {
    const { deadline, wakeAt = NEVER } = ticket.reader;
    ticket.expireAt = Math.min(deadline, wakeAt);
    if (ticket.expireAt === NEVER) this.deadlines.remove(ticket);
    else this.deadlines.update(ticket);
  }

  private signalQueue(line: KeyQueue): void {
    if (line.ready) return;
    line.ready = true;
    this.ready.push(line);
  }
}
