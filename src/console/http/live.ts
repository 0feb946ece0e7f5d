/**
 * Server-sent events: what a page shows, as it changes.
 *
 * Holds: the open streams, each with its watches and the text that it was sent last.
 * Invariants: at most one frame a second a stream, with changes only; a stream whose client has not read
 * 256 KiB gets nothing until it has, and then everything; at most 20 streams of one user and 200 of all;
 * what several streams of one user watch is asked and written as JSON once a second; an answer that takes
 * long holds up its own stream only, and after 30 s is an error.
 * Cost: nothing while no stream is open; between two streams the loop serves its clients.
 */
import type { ServerResponse } from 'node:http';
import { RivuletError } from '../../errors.ts';
import type { LivePart } from '../api-types.ts';
import { inTime } from './in-time.ts';
import { apiError, openStream } from './reply.ts';
import type { Call } from './router.ts';

const FRAME_MS = 1000;
const MOST_UNSENT = 256 * 1024;
const MOST_OF_USER = 20;
const MOST_STREAMS = 200;
const MOST_WATCHES = 20;
/** Without a frame a comment says that the stream is there. */
const ALIVE_MS = 15_000;

/** What one watch shows now. `tail` is given what it returned last, so it can go on from there. */
export type Watch = (call: Call, name: string) => Promise<LivePart>;

export interface WatchKinds {
  /** Undefined: there is no such watch. */
  find(watch: string): ((call: Call, before: LivePart | null) => Promise<LivePart>) | undefined;
}

/** What a watch shows now, for all streams that are given it: each form of it is written once. */
class Asked {
  readonly part: LivePart;
  /** Compared with what was sent. */
  readonly text: string;
  #whole: string | null = null;
  #news: string | null = null;

  constructor(part: LivePart) {
    this.part = part;
    this.text = comparable(part);
  }

  /** As JSON. */
  get whole(): string {
    this.#whole ??= JSON.stringify(this.part);
    return this.#whole;
  }

  /** As JSON for a page that has had a frame. */
  get news(): string {
    this.#news ??= JSON.stringify(withoutHistory(this.part));
    return this.#news;
  }
}

interface Stream {
  readonly call: Call;
  readonly response: ServerResponse;
  readonly watches: readonly string[];
  /** By watch: what was sent, without the time. */
  readonly sent: Map<string, string>;
  readonly parts: Map<string, LivePart>;
  isJammed: boolean;
  /** Its watches are being asked: the next frame comes after that. */
  isServed: boolean;
  isFirst: boolean;
  sentAt: number;
}

export class Live {
  readonly #streams = new Set<Stream>();
  readonly #kinds: WatchKinds;
  readonly #looked: () => void;
  #timer: NodeJS.Timeout | null = null;
  #isRunning = false;
  /** What was asked in this second, by user and watch: streams that open meanwhile are given it too. */
  #shared = new Map<string, Promise<Asked>>();

  constructor(kinds: WatchKinds, looked: () => void) {
    this.#kinds = kinds;
    this.#looked = looked;
  }

  get size(): number {
    return this.#streams.size;
  }

  open(call: Call): void {
    const watches = [...new Set((call.query.get('watch') ?? '').split(',').filter(Boolean))];
    if (watches.length === 0 || watches.length > MOST_WATCHES) {
      throw new RivuletError('INVALID_ARGUMENT', `watch names 1 to ${MOST_WATCHES} things`);
    }
    for (const watch of watches) {
      if (this.#kinds.find(watch) === undefined) {
        throw new RivuletError(
          'NOT_FOUND',
          `there is nothing to watch as ${JSON.stringify(watch)}`,
        );
      }
    }
    const { user } = call.viewer;
    const own = [...this.#streams].filter((each) => each.call.viewer.user === user);
    if (own.length >= MOST_OF_USER || this.#streams.size >= MOST_STREAMS) {
      throw new RivuletError('LIMIT_EXCEEDED', `a user may have ${MOST_OF_USER} live streams`);
    }
    const { response } = call;
    const stream: Stream = {
      call,
      response,
      watches,
      sent: new Map(),
      parts: new Map(),
      isJammed: false,
      isServed: false,
      isFirst: true,
      sentAt: performance.now(),
    };
    this.#streams.add(stream);
    response.once('close', () => this.#end(stream));
    openStream(response, 'text/event-stream; charset=utf-8');
    response.write('retry: 2000\n\n');
    if (this.#timer === null) {
      this.#shared = new Map();
      this.#timer = setInterval(() => void this.#tick(), FRAME_MS);
    }
    void this.#serve(stream, this.#shared);
  }

  close(): void {
    for (const stream of [...this.#streams]) {
      stream.response.end();
      this.#end(stream);
    }
  }

  #end(stream: Stream): void {
    this.#streams.delete(stream);
    if (this.#streams.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  async #tick(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      this.#looked();
      const shared = new Map<string, Promise<Asked>>();
      this.#shared = shared;
      for (const stream of [...this.#streams]) {
        void this.#serve(stream, shared);
        await new Promise((resolve) => setImmediate(resolve));
      }
    } finally {
      this.#isRunning = false;
    }
  }

  async #serve(stream: Stream, shared: Map<string, Promise<Asked>>): Promise<void> {
    if (stream.isServed) return;
    stream.isServed = true;
    try {
      await this.#frame(stream, shared);
    } catch {
      // The part cannot be written as JSON: the client connects again and receives the error.
      stream.response.destroy();
    } finally {
      stream.isServed = false;
    }
  }

  async #frame(stream: Stream, shared: Map<string, Promise<Asked>>): Promise<void> {
    const { call, response } = stream;
    if (!call.account.isValid) {
      response.end();
      this.#end(stream);
      return;
    }
    if (response.writableLength > MOST_UNSENT) {
      stream.isJammed = true;
      return;
    }
    const snapshot = stream.isFirst || stream.isJammed;
    stream.isFirst = stream.isJammed = false;
    if (snapshot) stream.sent.clear();
    const parts: string[] = [];
    for (const watch of stream.watches) {
      const asked = await this.#ask(stream, watch, shared);
      const { part, text } = asked;
      if (stream.sent.get(watch) === text && !(part.kind === 'append' && part.entries.length > 0)) {
        continue;
      }
      stream.sent.set(watch, text);
      parts.push(`${JSON.stringify(watch)}:${snapshot ? asked.whole : asked.news}`);
    }
    if (!this.#streams.has(stream)) return;
    const now = performance.now();
    if (parts.length === 0 && !snapshot) {
      if (now - stream.sentAt < ALIVE_MS) return;
      stream.sentAt = now;
      response.write(': alive\n\n');
      return;
    }
    stream.sentAt = now;
    // A LiveFrame, of parts that other streams may have been sent as well.
    const frame = `{"at":${Date.now()},"snapshot":${snapshot},"parts":{${parts.join(',')}}}`;
    response.write(`event: frame\ndata: ${frame}\n\n`);
  }

  async #ask(stream: Stream, watch: string, shared: Map<string, Promise<Asked>>): Promise<Asked> {
    const ask = this.#kinds.find(watch)!;
    const isTail = watch.startsWith('tail:');
    const key = JSON.stringify([stream.call.viewer.user, watch]);
    const before = stream.parts.get(watch) ?? null;
    let asked = isTail ? undefined : shared.get(key);
    if (asked === undefined) {
      asked = inTime(ask(stream.call, before))
        .catch((error: unknown): LivePart => ({ kind: 'error', error: apiError(error) }))
        .then((part) => new Asked(part));
      if (!isTail) shared.set(key, asked);
    }
    const found = await asked;
    if (isTail && found.part.kind !== 'error') stream.parts.set(watch, found.part);
    return found;
  }
}

/** The part as text, without the times at which it was made. */
function comparable(part: LivePart): string {
  if (part.kind !== 'value') return JSON.stringify(part);
  if (typeof part.value !== 'object' || part.value === null) return JSON.stringify(part.value);
  return JSON.stringify({ ...part.value, at: 0, series: 0, seconds: 0, minutes: 0 });
}

/** A page that has the first frame needs only the newest points of its series. */
function withoutHistory(part: LivePart): LivePart {
  if (part.kind !== 'value' || typeof part.value !== 'object' || part.value === null) return part;
  const value: Record<string, unknown> = { ...part.value };
  for (const name of ['series', 'seconds', 'minutes']) {
    const series = value[name] as { from: number; stepMs: number; values: object } | null;
    if (typeof series !== 'object' || series === null) continue;
    const lines = Object.entries(series.values) as [string, unknown[]][];
    const length = lines[0]?.[1].length ?? 0;
    const skipped = Math.max(0, length - NEWEST);
    value[name] = {
      ...series,
      from: series.from + skipped * series.stepMs,
      values: Object.fromEntries(lines.map(([line, each]) => [line, each.slice(skipped)])),
    };
  }
  return { kind: 'value', value };
}

/** Points of a series in a frame that is no snapshot: more than one, as a frame may be late. */
const NEWEST = 5;
