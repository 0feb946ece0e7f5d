/**
 * Where the tab is: path and query below /console, as a signal.
 *
 * Invariant: all state that a link has to show again is in the URL; nothing else remembers it. A click on
 * a link within the console changes the signal and loads no document.
 */
import { computed, signal } from '@preact/signals';

export const BASE = '/console';

const current = signal(new URL(window.location.href));

/** Changes when the document's address does. */
export const place = computed(() => ({
  path: current.value.pathname.slice(BASE.length).replace(/\/+$/, '') || '/',
  query: current.value.searchParams,
}));

/** How often a person went to another page: the shell moves the focus then, and not on a filter. */
export const visits = signal(0);

window.addEventListener('popstate', () => {
  current.value = new URL(window.location.href);
  visits.value += 1;
});

/** Goes to an address of the console, such as `/topics?sort=lag`. */
export function go(to: string): void {
  const url = new URL(BASE + to, window.location.href);
  // The time that a person chose goes along: it is a way of reading, not a place.
  const time = current.value.searchParams.get('time');
  if (time !== null && !url.searchParams.has('time')) url.searchParams.set('time', time);
  window.history.pushState(null, '', url);
  current.value = url;
  visits.value += 1;
  window.scrollTo(0, 0);
}

/** Changes parts of the query; null removes one. Typing replaces, a choice is a step of the history. */
export function setQuery(parts: Record<string, string | null>, how: 'step' | 'replace'): void {
  const url = new URL(current.value);
  for (const [name, value] of Object.entries(parts)) {
    if (value === null || value === '') url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  if (url.href === current.value.href) return;
  if (how === 'step') window.history.pushState(null, '', url);
  else window.history.replaceState(null, '', url);
  current.value = url;
}

/** A part of the query; '' where it is missing. */
export function queryOf(name: string): string {
  return place.value.query.get(name) ?? '';
}

/** The query with changed parts, as an address for a link to this page. */
export function withQuery(parts: Record<string, string | null>): string {
  const query = new URLSearchParams(place.value.query);
  for (const [name, value] of Object.entries(parts)) {
    if (value === null || value === '') query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  return `${place.value.path}${text === '' ? '' : `?${text}`}`;
}

/** Lets links of the console change the signal; clicks that open a new tab stay the browser's. */
export function interceptLinks(): void {
  document.addEventListener('click', (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest('a');
    if (link === null || link === undefined || link.hasAttribute('download')) return;
    const url = new URL(link.href, window.location.href);
    if (url.origin !== window.location.origin || link.target !== '') return;
    if (url.pathname !== BASE && !url.pathname.startsWith(`${BASE}/`)) return;
    if (url.pathname.startsWith(`${BASE}/api/`) || url.hash !== '') return;
    event.preventDefault();
    go(url.pathname.slice(BASE.length) + url.search);
  });
}

/**
 * A name as one part of a path. The API gives names that are no UTF-8 as `~<base64url>`; dots and nothing
 * have that form here too, because a browser takes them out of a path.
 */
export function part(name: string): string {
  if (name === '') return '~';
  if (name === '.') return '~Lg';
  if (name === '..') return '~Li4';
  return encodeURIComponent(name);
}
