/**
 * INFO, CLIENT LIST and CONFIG GET as tables.
 *
 * Invariant: passwords of the configuration are not shown, whatever the viewer's rights.
 */
import { pairsOf, type Reply } from '../../client/reply.ts';
import type { ClientRow, ServerFacts } from '../api-types.ts';

export function infoSections(text: string): ServerFacts['sections'] {
  const sections: { title: string; facts: [string, string][] }[] = [];
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith('# ')) sections.push({ title: line.slice(2), facts: [] });
    const at = line.indexOf(':');
    if (at > 0) sections.at(-1)?.facts.push([line.slice(0, at), line.slice(at + 1)]);
  }
  return sections.filter(({ facts }) => facts.length > 0);
}

export function clientRow(line: string): ClientRow {
  const facts = new Map(
    line.split(' ').map((part) => {
      const at = part.indexOf('=');
      return [part.slice(0, at), part.slice(at + 1)] as const;
    }),
  );
  const of = (name: string): string => facts.get(name) ?? '';
  return {
    id: of('id'),
    address: of('addr'),
    name: of('name'),
    user: of('user'),
    ageMs: Number(of('age')) * 1000,
    idleMs: Number(of('idle')) * 1000,
    command: of('cmd'),
  };
}

/** `masterauth` is a password too, `tls-auth-clients` is none. */
const SECRET = /pass|secret|(?:auth|user)$/i;

/** Whether the value of a setting is a password, or a name that belongs to one. */
export function isSecretSetting(name: string): boolean {
  return SECRET.test(name);
}

export function configRows(reply: Reply): [string, string][] {
  return pairsOf(reply)
    .map(([name, value]): [string, string] => [String(name), String(value ?? '')])
    .map(([name, value]): [string, string] => [
      name,
      isSecretSetting(name) && value !== '' ? '(set)' : value,
    ])
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
