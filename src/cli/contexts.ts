/**
 * Contexts: named addresses in a file of the user's, so that `--context staging` replaces a URL.
 *
 * The file is `$XDG_CONFIG_HOME/micro/contexts.json` (default `~/.config/micro`). Invariants: only its
 * owner can read it, because a URL may hold a password; it is replaced as a whole, so that two
 * commands at once leave one of their results; a file that cannot be read is an error that names it.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';
import { makeDirectoriesSync } from '../storage/disk/make-directories.ts';
import { CommandFailure, usage } from './exit-code.ts';

export interface Context {
  readonly broker?: string;
  readonly registry?: string;
}

export interface Contexts {
  /** The one that commands use where none is named. */
  readonly current: string | null;
  /** The one before it: `micro context select -` goes back. */
  readonly previous: string | null;
  readonly contexts: Readonly<Record<string, Context>>;
}

const NONE: Contexts = { current: null, previous: null, contexts: {} };

export function contextsFile(): string {
  const { XDG_CONFIG_HOME: configured } = process.env;
  // A relative one is invalid and to be ignored, says the XDG specification.
  const base =
    configured !== undefined && isAbsolute(configured) ? configured : join(homedir(), '.config');
  return join(base, 'micro', 'contexts.json');
}

export function readContexts(): Contexts {
  let text: string;
  try {
    text = readFileSync(contextsFile(), 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return NONE;
    throw new CommandFailure(`the contexts cannot be read: ${message}`);
  }
  try {
    return checked(JSON.parse(text));
  } catch (error) {
    const why = (error as Error).message;
    throw new CommandFailure(`${contextsFile()} is damaged: ${why}; repair or remove it`);
  }
}

export function writeContexts(contexts: Contexts): void {
  const file = contextsFile();
  makeDirectoriesSync(dirname(file), 0o700);
  const temporary = `${file}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(contexts, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, file);
}

/** The named context, or the current one; null where none is named and none is current. */
export function contextOf(name: string | undefined): Context | null {
  const { current, contexts } = readContexts();
  const wanted = name ?? current;
  if (wanted === null) return null;
  if (Object.hasOwn(contexts, wanted)) return contexts[wanted] as Context;
  const known = Object.keys(contexts).sort().join(', ') || 'none yet';
  throw usage(`there is no context ${JSON.stringify(wanted)}; there are: ${known}`);
}

function checked(value: unknown): Contexts {
  const { current = null, previous = null, contexts } = value as Partial<Contexts>;
  if (typeof contexts !== 'object' || contexts === null) throw new Error('it holds no "contexts"');
  for (const [name, each] of Object.entries(contexts)) {
    const texts = [each?.broker, each?.registry].filter((text) => text !== undefined);
    if (typeof each !== 'object' || texts.some((text) => typeof text !== 'string')) {
      throw new Error(`context ${JSON.stringify(name)} holds no addresses`);
    }
  }
  return { current, previous, contexts };
}
