/**
 * Which entries of the stream `_rivulet.spans` hold the spans of a trace, and of a message.
 *
 * Holds: for each trace id and each message the ids of entries; no spans. Invariants: it is read while a
 * page asks and forgotten IDLE_MS after the last question; the newest entries are read first; a question
 * reads for 500 ms at most and says what it has not come to; the number of keys is limited.
 * Cost: one JSON.parse per entry, once; a question reads again the entries that it is about.
 */
import { decodeMessage } from '../../broker/message/entry.ts';
import type { SpanFacts } from '../../rpc/seen/spans.ts';
import {
  readSpanEntry,
  SPANS_TOPIC,
  type SpanEntry,
} from '../../service/observation/span-entry.ts';
import { type Limits, walkEntries } from '../messages/browse.ts';
import { readEntry } from '../routes/entries.ts';
import type { RawEntry } from '../sources/commands.ts';
import type { ConsoleSource, Viewer } from '../sources/source.ts';
import { timeOfId } from '../sources/stream-source.ts';

const TOPIC = Buffer.from(SPANS_TOPIC);
const IDLE_MS = 5 * 60_000;
const READ: SpanTableLimits = {
  entries: 20_000,
  bytes: 64 * 1024 * 1024,
  ms: 500,
  keys: 100_000,
};
/** Entries that are read beside each other. */
const AT_ONCE = 50;
/** Of one trace. */
const MOST_ENTRIES = 500;
const MOST_SPANS = 1000;
const MOST_DEPTH = 50;

/** Of one question: what it reads; of the table: its keys. */
export interface SpanTableLimits extends Limits {
  readonly keys: number;
}

/** A span with the process that stored it. */
export interface FoundSpan {
  readonly span: SpanFacts;
  readonly service: string;
  readonly node: string;
}

export class SpanTable {
  readonly #source: ConsoleSource;
  readonly #limits: SpanTableLimits;
  #entries = new Map<string, string[]>();
  /** What was read, from the oldest to the newest; null before the first entry. */
  #newest: string | null = null;
  #oldest: string | null = null;
  #hasAll = false;
  #isBehind = false;
  #reading: Promise<void> | null = null;
  #idle: NodeJS.Timeout | null = null;

  constructor(source: ConsoleSource, limits: SpanTableLimits = READ) {
    this.#source = source;
    this.#limits = limits;
  }

  /** Keys that are held. */
  get size(): number {
    return this.#entries.size;
  }

  /** The spans of a trace, oldest first; `missing` receives what is not shown and why. */
  async ofTrace(viewer: Viewer, trace: string, missing: string[]): Promise<FoundSpan[]> {
    if (!(await this.#refresh(viewer, missing))) return [];
    return this.#spansOf(viewer, trace, missing);
  }

  /** The traces in which a message was published, handled or settled. */
  async tracesOf(
    viewer: Viewer,
    topic: string,
    message: string,
    missing: string[],
  ): Promise<string[]> {
    if (!(await this.#refresh(viewer, missing))) return [];
    const key = keyOf(topic, message);
    const traces = new Set<string>();
    for (const { spans } of await this.#read(viewer, key)) {
      for (const span of spans) {
        if (span.topic === topic && span.message === message) traces.add(span.trace);
      }
    }
    return [...traces];
  }

  close(): void {
    if (this.#idle !== null) clearTimeout(this.#idle);
    this.#forget();
  }

  async #spansOf(viewer: Viewer, trace: string, missing: string[]): Promise<FoundSpan[]> {
    const found = new Map<string, FoundSpan>();
    for (const { service, node, spans } of await this.#read(viewer, trace)) {
      for (const span of spans) {
        // A batch that was sent again holds the same spans.
        if (span.trace === trace) found.set(`${span.id} ${span.kind}`, { span, service, node });
      }
    }
    const all = inOrder([...found.values()]);
    if (all.length > MOST_SPANS) {
      missing.push(`${all.length - MOST_SPANS} more spans of the trace are not shown`);
    }
    if ((this.#entries.get(trace)?.length ?? 0) >= MOST_ENTRIES) {
      missing.push(`the trace has spans in more than ${MOST_ENTRIES} entries`);
    }
    return all.slice(0, MOST_SPANS);
  }

  async #read(viewer: Viewer, key: string): Promise<SpanEntry[]> {
    const ids = this.#entries.get(key) ?? [];
    const entries: SpanEntry[] = [];
    for (let at = 0; at < ids.length; at += AT_ONCE) {
      const some = ids.slice(at, at + AT_ONCE);
      const raws = await Promise.all(some.map((id) => readEntry(this.#source, viewer, TOPIC, id)));
      for (const raw of raws) {
        // It may have been trimmed meanwhile.
        const entry = raw === null ? null : spanEntryOf(raw);
        if (entry !== null) entries.push(entry);
      }
    }
    return entries;
  }

  /** False: this viewer is shown no spans. */
  async #refresh(viewer: Viewer, missing: string[]): Promise<boolean> {
    if (!viewer.sees(TOPIC)) {
      missing.push(`spans are not shown: ${SPANS_TOPIC} is not yours to read`);
      return false;
    }
    this.#reading ??= this.#readOn(viewer).finally(() => {
      this.#reading = null;
    });
    await this.#reading;
    this.#keep();
    if (this.#newest === null) {
      missing.push(
        'no spans are recorded: services store them on a loopback broker, or with trace: { store: 0.01 }',
      );
    } else if (this.#isBehind) {
      missing.push('newer spans are being read: ask again');
    } else if (!this.#hasAll) {
      const time = timeOfId(this.#oldest);
      const since = time === null ? 'some time' : new Date(time).toISOString();
      const why = this.#isFull ? 'are too many to be searched' : 'are not read yet: ask again';
      missing.push(`spans before ${since} ${why}`);
    }
    return true;
  }

  /** What came since the last time, then further back. */
  async #readOn(viewer: Viewer): Promise<void> {
    const limits = this.#limits;
    const until = performance.now() + limits.ms;
    if (this.#newest !== null) {
      const range = { from: this.#newest, isAfter: true, to: null, newest: false };
      const walk = walkEntries(this.#source, viewer, { topic: TOPIC, ...range }, limits);
      for await (const raw of walk.entries) {
        this.#newest = raw.id;
        this.#index(raw);
        if (this.#entries.size > limits.keys) break;
      }
      this.#isBehind = walk.stopped() !== 'end';
      // What is held has no gap: a table that is full begins again with the newest entries.
      if (this.#entries.size > limits.keys) this.#clear();
    }
    const ms = until - performance.now();
    if (this.#hasAll || this.#isBehind || ms <= 0 || this.#isFull) return;
    const range = { from: this.#oldest, isAfter: this.#oldest !== null, to: null, newest: true };
    const walk = walkEntries(this.#source, viewer, { topic: TOPIC, ...range }, { ...limits, ms });
    for await (const raw of walk.entries) {
      this.#newest ??= raw.id;
      this.#oldest = raw.id;
      this.#index(raw);
      if (this.#isFull) return;
    }
    // A stream without entries may have some later.
    this.#hasAll = this.#newest !== null && walk.stopped() === 'end';
  }

  /** Half is left for what comes. */
  get #isFull(): boolean {
    return this.#entries.size >= this.#limits.keys / 2;
  }

  #index(raw: RawEntry): void {
    const keys = new Set<string>();
    for (const { trace, topic, message } of spanEntryOf(raw)?.spans ?? []) {
      keys.add(trace);
      if (topic !== undefined && message !== undefined) keys.add(keyOf(topic, message));
    }
    for (const key of keys) {
      const ids = this.#entries.get(key);
      if (ids === undefined) this.#entries.set(key, [raw.id]);
      else if (ids.length < MOST_ENTRIES) ids.push(raw.id);
    }
  }

  #keep(): void {
    if (this.#idle === null) this.#idle = setTimeout(() => this.#forget(), IDLE_MS).unref();
    else this.#idle.refresh();
  }

  #forget(): void {
    this.#idle = null;
    this.#clear();
  }

  #clear(): void {
    this.#entries = new Map();
    this.#newest = null;
    this.#oldest = null;
    this.#hasAll = false;
    this.#isBehind = false;
  }
}

function spanEntryOf(raw: RawEntry): SpanEntry | null {
  return readSpanEntry(decodeMessage(raw.fields).body);
}

/** A topic has no NUL, a trace id no space. */
function keyOf(topic: string, message: string): string {
  return `${topic} ${message}`;
}

/** By time; of one millisecond, what caused another comes first. */
function inOrder(spans: readonly FoundSpan[]): FoundSpan[] {
  const parents = new Map(spans.map(({ span }) => [span.id, span.parent]));
  const depthOf = (id: string): number => {
    let depth = 0;
    // A circle of parents ends here.
    for (let at = parents.get(id); at && depth < MOST_DEPTH; at = parents.get(at)) depth++;
    return depth;
  };
  return spans
    .map((found) => ({ found, depth: depthOf(found.span.id) }))
    .sort((a, b) => a.found.span.at - b.found.span.at || a.depth - b.depth)
    .map(({ found }) => found);
}
