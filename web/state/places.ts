/** The main pages: their names, addresses, and the letter that follows `g` on the keyboard. */
import type { Capabilities } from '../../src/console/api-types.ts';

export interface Place {
  readonly text: string;
  readonly to: string;
  readonly icon: string;
  readonly letter: string;
  readonly needs: Exclude<keyof Capabilities, 'missing'> | null;
}

export const PLACES: readonly Place[] = [
  { text: 'Overview', to: '/', icon: 'overview', letter: 'o', needs: null },
  { text: 'Topics', to: '/topics', icon: 'topics', letter: 't', needs: 'topics' },
  { text: 'Dead letters', to: '/dead', icon: 'dead', letter: 'd', needs: 'dead' },
  { text: 'Journey', to: '/journey', icon: 'journey', letter: 'j', needs: 'journey' },
  { text: 'Services', to: '/services', icon: 'services', letter: 's', needs: 'services' },
  { text: 'Workflows', to: '/workflows', icon: 'workflows', letter: 'w', needs: 'workflows' },
  { text: 'Server', to: '/server', icon: 'server', letter: 'r', needs: 'server' },
  { text: 'Audit', to: '/audit', icon: 'audit', letter: 'a', needs: 'audit' },
];

/** Whether a path belongs to a place: `/topics/orders` to Topics. */
export function isIn(path: string, { to }: Place): boolean {
  if (to === '/journey' && path.startsWith('/traces/')) return true;
  return to === '/' ? path === '/' : path === to || path.startsWith(`${to}/`);
}
