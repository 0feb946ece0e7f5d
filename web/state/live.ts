/**
 * The one stream of changes of this tab: everything that is visible and live shares it.
 *
 * Invariants: the stream is closed while the tab is hidden or nothing is watched; a set of watches that
 * changed opens it again after a moment, so that a page change costs one stream. A lost stream is tried
 * again after 0.5, 1, 2, 4, then every 8 s, for as long as something is watched.
 */
import { signal } from '@preact/signals';
import type { LiveFrame, LivePart } from '../../src/console/api-types.ts';
import { API } from './api.ts';
import { loadRoot, serverNow } from './session.ts';

export type LiveState =
  | { readonly is: 'idle' }
  | { readonly is: 'paused' }
  | { readonly is: 'opening' }
  | { readonly is: 'live' }
  /** The server answers, and gives no stream: it has as many as it takes, or knows no such watch. */
  | { readonly is: 'refused' }
  | { readonly is: 'lost'; readonly since: number };

export const live = signal<LiveState>({ is: 'idle' });

/** Rises when the server is there again after it was lost: what was read before may have changed. */
export const recoveries = signal(0);

const SETTLE_MS = 60;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8000;

type Take = (part: LivePart) => void;
const watches = new Map<string, Set<Take>>();
let source: EventSource | null = null;
let opened = '';
let settling: number | undefined;
let retry: number | undefined;
let retryMs = FIRST_RETRY_MS;

/** Calls `take` with each part of a watch until the returned function is called. */
export function watch(name: string, take: Take): () => void {
  const takers = watches.get(name) ?? new Set();
  watches.set(name, takers.add(take));
  settle();
  return () => {
    takers.delete(take);
    if (takers.size === 0 && watches.get(name) === takers) watches.delete(name);
    settle();
  };
}

/** A user has logged in again: what is shown is read again. */
export function resume(): void {
  recoveries.value += 1;
  tryNow();
}

/** Tries a lost stream now. */
export function tryNow(): void {
  retryMs = FIRST_RETRY_MS;
  open();
}

document.addEventListener('visibilitychange', () => settle());

function settle(): void {
  window.clearTimeout(settling);
  settling = window.setTimeout(() => {
    const wanted = document.hidden ? '' : [...watches.keys()].sort().join(',');
    if (wanted !== opened || (wanted !== '' && source === null && retry === undefined)) open();
  }, SETTLE_MS);
}

function open(): void {
  window.clearTimeout(retry);
  retry = undefined;
  source?.close();
  source = null;
  opened = document.hidden ? '' : [...watches.keys()].sort().join(',');
  if (opened === '') {
    if (live.value.is !== 'lost') live.value = { is: watches.size === 0 ? 'idle' : 'paused' };
    if (live.value.is === 'lost' && !document.hidden) probe();
    return;
  }
  if (live.value.is !== 'lost' && live.value.is !== 'live') live.value = { is: 'opening' };
  const stream = new EventSource(`${API}/live?watch=${encodeURIComponent(opened)}`);
  source = stream;
  stream.addEventListener('open', () => {
    retryMs = FIRST_RETRY_MS;
    found();
  });
  stream.addEventListener('frame', (event) => take(JSON.parse(event.data) as LiveFrame));
  stream.addEventListener('error', () => {
    if (source !== stream) return;
    stream.close();
    source = null;
    broken();
  });
}

/** A stream that ends may be an outage or a refusal: a request finds out which. */
async function broken(): Promise<void> {
  const response = await fetch(`${API}/`, { cache: 'no-store' }).catch(() => null);
  // Another page has opened a stream meanwhile, or nothing is watched any more.
  if (source !== null || retry !== undefined || watches.size === 0) return;
  if (response === null || response.status >= 500) {
    lose();
    return;
  }
  if (response.status === 401) {
    loadRoot();
    return;
  }
  if (retryMs > FIRST_RETRY_MS) live.value = { is: 'refused' };
  retry = window.setTimeout(open, retryMs);
  retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
}

/** The server did not answer: the page says so, and tries again. */
export function lose(): void {
  if (document.hidden) return;
  if (live.value.is !== 'lost') live.value = { is: 'lost', since: serverNow() };
  if (retry !== undefined) return;
  retry = window.setTimeout(open, retryMs);
  retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
}

/** Nothing is watched, so a request finds out whether the server is back. */
async function probe(): Promise<void> {
  const response = await fetch(`${API}/`, { cache: 'no-store' }).catch(() => null);
  if (response === null || response.status >= 502) {
    if (live.value.is === 'lost') lose();
  } else {
    found();
    live.value = { is: 'idle' };
  }
}

function found(): void {
  const wasLost = live.value.is === 'lost';
  live.value = { is: 'live' };
  if (!wasLost) return;
  loadRoot();
  recoveries.value += 1;
}

function take(frame: LiveFrame): void {
  for (const [name, part] of Object.entries(frame.parts)) {
    for (const each of watches.get(name) ?? []) each(part);
  }
}
