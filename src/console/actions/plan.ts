/**
 * What an action is made of: a plan of exactly the things that it will touch, and how one is done.
 *
 * Contract only. Invariants: making a plan changes nothing; `run` is called once for each item of the plan
 * and for nothing else; what arrived after the plan stays untouched.
 */
import { RivuletError } from '../../errors.ts';
import type { ActionTarget, Role, Verb } from '../api-types.ts';
import type { DecodeSetup } from '../messages/decode.ts';
import type { ConsoleSource, Viewer } from '../sources/source.ts';

export interface ActionCall {
  readonly source: ConsoleSource;
  readonly viewer: Viewer;
  readonly roles: readonly Role[];
  readonly setup: DecodeSetup;
  readonly target: ActionTarget;
  readonly options: Readonly<Record<string, unknown>>;
}

export interface Impossible {
  readonly what: string;
  readonly why: string;
}

export interface Plan {
  /** Things to do, named as a list shows them: ids, mostly. */
  readonly items: readonly string[];
  /** The first five, one line each; default: the items. */
  readonly first?: readonly string[];
  readonly impossible?: readonly Impossible[];
  /** What the audit names as the target. */
  readonly target: string;
  readonly summary: string;
  /** Name that has to be typed. */
  readonly confirm?: string;
  readonly reversible: boolean;
  /** What it holds beside its items: a body to publish. */
  readonly bytes?: number;
  /** Does one; returns the id of what it made, if any. Rejects with why it could not. */
  run(item: string): Promise<string | null>;
}

export interface ActionKind {
  readonly verb: Verb;
  /** The command whose right, with any key, is needed for it. */
  readonly command: readonly string[];
  /** Of the source's capabilities: without it the verb is not offered. */
  readonly needs: keyof ConsoleSource['capabilities'] | null;
  /** The broker has to take commands. */
  readonly byCommands?: true;
  /** Only for those who have this role too. */
  readonly role?: Role;
  plan(call: ActionCall): Promise<Plan>;
}

/** Throws PERMISSION_DENIED where the viewer may not run this command. */
export function allow(viewer: Viewer, ...command: readonly (string | Buffer)[]): void {
  if (viewer.may(...command)) return;
  throw new RivuletError('PERMISSION_DENIED', `you may not run ${String(command[0])} on it`);
}

function missingOption(name: string, what: string): RivuletError {
  return new RivuletError('INVALID_ARGUMENT', `${name} is needed: ${what}`);
}

export function textOption(
  options: Readonly<Record<string, unknown>>,
  name: string,
  what: string,
): string {
  const value = options[name];
  if (typeof value === 'string' && value !== '') return value;
  throw missingOption(name, what);
}

/** Undefined: it was not given. Throws INVALID_ARGUMENT for what is no number in the range. */
export function numberOption(
  options: Readonly<Record<string, unknown>>,
  name: string,
  least: number,
  most: number,
): number | undefined {
  const value = options[name];
  if (value === undefined || value === null || value === '') return undefined;
  // Number() takes true, [5] and 1e3 for numbers.
  const isWritten =
    typeof value === 'number' || (typeof value === 'string' && /^-?\d+$/.test(value));
  const number = isWritten ? Number(value) : Number.NaN;
  if (Number.isInteger(number) && number >= least && number <= most) return number;
  throw new RivuletError('INVALID_ARGUMENT', `${name} is a whole number from ${least} to ${most}`);
}
