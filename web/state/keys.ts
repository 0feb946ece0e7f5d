/**
 * The keyboard: `/` search, `g` and a letter to a page, `j` and `k` along the rows, `?` this list.
 *
 * Invariant: no key does anything while a person types, while a dialog is open, or with Ctrl, Alt or Meta.
 */
import { signal } from '@preact/signals';
import { type RowReader, rowsOf } from '../parts/table.tsx';
import { PLACES } from './places.ts';
import { go } from './router.ts';

export const isHelpOpen = signal(false);
/** `g` was pressed: the next letter is a page. A person may take any time for it. */
export const isGoing = signal(false);

export function listenToKeys(): void {
  document.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
    const target = event.target as HTMLElement;
    if (target.closest('input, textarea, select, dialog, [contenteditable]') !== null) {
      isGoing.value = false;
      return;
    }
    if (press(event.key)) event.preventDefault();
  });
  document.addEventListener('pointerdown', () => {
    isGoing.value = false;
  });
}

/** True when the key did something. */
function press(key: string): boolean {
  if (isGoing.value) {
    isGoing.value = false;
    const place = PLACES.find(({ letter }) => letter === key);
    if (place !== undefined) go(place.to);
    return place !== undefined;
  }
  if (key === 'g') {
    isGoing.value = true;
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

/** Moves the focus to the next row of the tables on this page, or the one before. */
function step(by: 1 | -1): boolean {
  const tables = [...document.querySelectorAll<HTMLTableElement>('main table')]
    .map(rowsOf)
    .filter((rows): rows is RowReader => rows !== undefined && rows.length() > 0);
  const at = tables.findIndex((rows) => rows.focused() !== null);
  if (at < 0) {
    const near = by === 1 ? tables[0] : tables.at(-1);
    near?.focus(by === 1 ? near.shown().first : near.shown().last);
    return near !== undefined;
  }
  const rows = tables[at] as RowReader;
  const next = (rows.focused() as number) + by;
  if (next >= 0 && next < rows.length()) rows.focus(next);
  else if (by === 1) tables[at + 1]?.focus(0);
  else tables[at - 1]?.focus((tables[at - 1] as RowReader).length() - 1);
  return true;
}
