/**
 * Directives of a configuration file that are not parameters: users, renamed commands, modules, and the
 * files that an `include` with wildcards names.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { globMatches } from '../../util/glob.ts';
import type { Config } from './config.ts';
import { MODULE_PARAMETER } from './config-inert.ts';

/** False when `name` is not such a directive. Throws Error with `where: why`. */
export function assignDirective(
  config: Config,
  name: string,
  values: readonly string[],
  where: string,
): boolean {
  if (name === 'user') {
    if (values.length === 0) throw new Error(`${where}: 'user' needs a name`);
    config.users.push([...values]);
  } else if (name === 'rename-command') {
    if (values.length !== 2) throw new Error(`${where}: 'rename-command' needs two names`);
    config.renamedCommands.push([values[0]!, values[1]!]);
  } else if (name === 'loadmodule' || name === 'loadmodule-unless-present') {
    if (values.length === 0) throw new Error(`${where}: '${name}' needs a file`);
    config.inert.add(name);
  } else if (MODULE_PARAMETER.test(name)) {
    config.inert.add(name);
  } else {
    return false;
  }
  return true;
}

const WILDCARD = /[*?[]/;

/** The files that an absolute path names, in order; one without wildcards names itself, even if absent. */
export function includedFiles(path: string): string[] {
  if (!WILDCARD.test(path)) return [path];
  let found = ['/'];
  for (const part of path.split('/').filter(Boolean)) {
    found = WILDCARD.test(part)
      ? found.flatMap((folder) => matching(folder, part))
      : found.map((folder) => join(folder, part));
  }
  return found.sort();
}

function matching(folder: string, pattern: string): string[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  const glob = Buffer.from(pattern);
  return names
    .filter((name) => name.startsWith('.') === pattern.startsWith('.'))
    .filter((name) => globMatches(glob, Buffer.from(name)))
    .map((name) => join(folder, name));
}
