/**
 * The keyboard: `/` search, `g` and a letter to a page, `j` and `k` along the rows, `?` this list.
 *
 * Invariant: no key does anything while a person types, while a dialog is open, or with Ctrl, Alt or Meta.
 */
import { signal } from '@preact/signals';
import { focusTarget } from '../parts/table.tsx';
import { PLACES } from './places.ts';
import { go } from './router.ts';

/** The letter after `g` has to come within this time. */
const SEQUENCE_MS = 1500;

export const isHelpOpen = signal(false);
/** `g` was pressed: the next letter is a page. */
export const isGoing = signal(false);

let ending: number | undefined;

export function listenToKeys(): void {
  document.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
    const target = event.target as HTMLElement;
    if (target.closest('input, textarea, select, dialog, [contenteditable]') !== null) return;
    if (press(event.key)) event.preventDefault();
  });
}

/** True when the key did something. */
function press(key: string): boolean {
  if (isGoing.value) {
    stopGoing();
    const place = PLACES.find(({ letter }) => letter === key);
    if (place !== undefined) go(place.to);
    return place !== undefined;
  }
  if (key === 'g') {
    isGoing.value = true;
    ending = window.setTimeout(stopGoing, SEQUENCE_MS);
    return true;
  }
  if (key === '/') {
    document.querySelector<HTMLInputElement>('#search')?.focus();
    return true;
  }
  if (key === '?') {
    isHelpOpen.value = true;
    return true;
  }
  if (key === 'j' || key === 'k') return step(key === 'j' ? 1 : -1);
  return false;
}

function stopGoing(): void {
  window.clearTimeout(ending);
  isGoing.value = false;
}

/** Moves the focus to the next row of the tables on this page, or the one before. */
function step(by: 1 | -1): boolean {
  const rows = [...document.querySelectorAll<HTMLTableRowElement>('main tr[data-key]')];
  if (rows.length === 0) return false;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = at < 0 ? (by === 1 ? 0 : rows.length - 1) : at + by;
  const row = rows[Math.min(rows.length - 1, Math.max(0, next))];
  const element = focusTarget(row);
  element?.focus({ preventScroll: true });
  row?.scrollIntoView({ block: 'nearest' });
  return true;
}
