/**
 * The names of checkpoint-keys.ts in words, for `micro repair`.
 */
import { uidIn } from './checkpoint-keys.ts';

/** By the first letter of a name. */
const KINDS: Readonly<Record<string, string>> = {
  b: 'a block of entries of stream',
  g: 'a group of stream',
  i: 'the producers of stream',
  k: 'the description of key',
  m: 'the description of the databases',
  p: 'a page of pending entries of stream',
  r: 'what is kept of stream',
  s: 'the delayed entry',
};

/** What a name is the name of. Keys and streams have numbers here; their names are in values. */
export function describeName(name: Buffer): string {
  const kind = KINDS[String.fromCharCode(name[0])];
  if (kind === undefined) return `an unknown value ${name.toString('hex')}`;
  return name.length < 9 ? kind : `${kind} ${uidIn(name)}`;
}
