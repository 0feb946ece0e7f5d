/**
 * A flag for each limit of a server: `--max-body-bytes 1000000`, `--dial-timeout 2s`.
 *
 * The limits, their defaults and what they may be are those of gateway/limits.ts. Invariant: a limit that
 * is not given is left out, so that a file or the default decides. Cost: one option for each limit.
 */
import { type Command, Option } from 'commander';
import type { Limit } from '../gateway/limits.ts';
import { count, timeout } from './values.ts';

type Limits = Readonly<Record<string, Limit>>;

export function addLimits(command: Command, limits: Limits): void {
  for (const [name, each] of Object.entries(limits)) {
    const value = isTime(name) ? '<time>' : '<n>';
    const text = `${each.says} (default ${shown(name, each.default)})`;
    command.addOption(new Option(`${flagOf(name)} ${value}`, text).helpGroup('Limits:'));
  }
}

/** The limits that were given. Throws where one is no such value. */
export function limitsFrom(flags: object, limits: Limits): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [name, { row }] of Object.entries(limits)) {
    const text = (flags as Record<string, unknown>)[attributeOf(name)];
    if (typeof text !== 'string') continue;
    const flag = flagOf(name);
    if (!isTime(name)) found[name] = count(text, flag, row.min, row.max);
    else found[name] = row.min === 0 && /^0+(ms|s)?$/.test(text) ? 0 : timeout(text, flag);
  }
  return found;
}

/** `maxBodyBytes` is `--max-body-bytes`, `pingMs` is `--ping`. */
export function flagOf(name: string): string {
  return `--${attributeOf(name).replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function attributeOf(name: string): string {
  return name.replace(/Ms$/, '');
}

function isTime(name: string): boolean {
  return name.endsWith('Ms');
}

/** As a person writes it. */
export function shown(name: string, value: number): string {
  if (!isTime(name)) return String(value);
  if (value % 60_000 === 0 && value > 60_000) return `${value / 60_000}m`;
  return value % 1000 === 0 ? `${value / 1000}s` : `${value}ms`;
}
