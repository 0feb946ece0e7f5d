/**
 * What a source can show and do, with a sentence for everything that it cannot.
 */
import type { Capabilities } from '../api-types.ts';

export type Ability = Exclude<keyof Capabilities, 'missing' | 'pending'>;

const ALL: readonly Ability[] = [
  'topics',
  'scan',
  'rates',
  'browse',
  'browseByTime',
  'groups',
  'consumers',
  'settle',
  'schedule',
  'dead',
  'redrive',
  'redriveChosen',
  'publish',
  'deleteTopic',
  'services',
  'call',
  'workflows',
  'server',
  'clients',
  'slowlog',
  'audit',
  'journey',
  'spans',
];

/** `missing`: why something is not there. What it does not name is there. */
export function capabilitiesOf(
  pending: Capabilities['pending'],
  missing: Readonly<Partial<Record<Ability | 'pending', string>>>,
): Capabilities {
  const flags = Object.fromEntries(ALL.map((name) => [name, missing[name] === undefined]));
  return { ...(flags as Record<Ability, boolean>), pending, missing: { ...missing } };
}
