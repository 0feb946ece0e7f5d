/**
 * The one polite live region: the result of what a person did. Numbers that change by themselves are
 * silent.
 */
import { signal } from '@preact/signals';

export const announcement = signal('');

let last: number | undefined;

export function announce(text: string): void {
  // The same text twice is read twice: the region is emptied between them.
  announcement.value = '';
  window.clearTimeout(last);
  last = window.setTimeout(() => {
    announcement.value = text;
  }, 30);
}
