/**
 * The servers that a comparison test runs beside Rivulet: the machine's redis-server, and a newer one
 * where RIVULET_REFERENCE names its program.
 */
import { missing } from './requirements.ts';

export interface Reference {
  readonly program: string;
  readonly label: string;
  /** The machine's own, which is Debian's 7.0; false for the one that RIVULET_REFERENCE names. */
  readonly old: boolean;
  readonly skip: string | false;
}

export function references(): Reference[] {
  const found: Reference[] = [
    {
      program: 'redis-server',
      label: 'redis-server',
      old: true,
      skip: missing('redis-server'),
    },
  ];
  const newest = process.env.RIVULET_REFERENCE;
  if (newest !== undefined && newest !== '') {
    found.push({ program: newest, label: 'the newest redis-server', old: false, skip: false });
  }
  return found;
}
