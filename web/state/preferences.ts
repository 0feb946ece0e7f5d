/**
 * How a person reads: times and colours. The time is in the URL, because a link shows the same; both are
 * remembered in this browser.
 */
import { effect, signal } from '@preact/signals';
import { queryOf, setQuery } from './router.ts';

export type TimeMode = 'relative' | 'local' | 'utc';
export type Theme = 'auto' | 'light' | 'dark';

const TIMES: readonly string[] = ['relative', 'local', 'utc'];
const THEMES: readonly string[] = ['auto', 'light', 'dark'];

const first = queryOf('time') || remembered('time');
export const timeMode = signal<TimeMode>(TIMES.includes(first) ? (first as TimeMode) : 'relative');

const firstTheme = remembered('theme');
export const theme = signal<Theme>(THEMES.includes(firstTheme) ? (firstTheme as Theme) : 'auto');

/** Rises each second while the tab is visible: ages are written again. */
export const tick = signal(Date.now());

export function startPreferences(): void {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
    remember('theme', theme.value);
  });
  window.setInterval(() => {
    if (!document.hidden) tick.value = Date.now();
  }, 1000);
}

export function setTimeMode(mode: TimeMode): void {
  timeMode.value = mode;
  remember('time', mode);
  setQuery({ time: mode }, 'replace');
}

/** Storage may be switched off in the browser: then nothing is remembered. */
function remembered(name: string): string {
  try {
    return window.localStorage.getItem(`rivulet-${name}`) ?? '';
  } catch {
    return '';
  }
}

function remember(name: string, value: string): void {
  try {
    window.localStorage.setItem(`rivulet-${name}`, value);
  } catch {
    // See remembered.
  }
}
