/**
 * The arguments of `micro server`, as redis-server reads its own: an optional configuration file,
 * then `--name value ...` for any parameter; a flag's values reach to the next flag. `--name=value`
 * works as well, and `--config FILE` names the file. Values are kept as bytes.
 */
import { resolve } from 'node:path';
import { bytesOf, type Config, parameterOf, unknownText } from '../../server/config/config.ts';
import { assignDirective } from '../../server/config/config-directives.ts';
import { loadConfigFile } from '../../server/config/config-file.ts';

interface Flag {
  readonly name: string;
  readonly values: string[];
}

/** Throws Error with one line. Flags win over the file. */
export function readServerFlags(config: Config, args: readonly string[]): void {
  const { file, flags } = split(args);
  if (file !== null) {
    config.file = resolve(file);
    loadConfigFile(config, config.file);
  }
  for (const { name, values } of flags) assign(config, name, values.map(bytesOf));
}

function split(args: readonly string[]): { file: string | null; flags: Flag[] } {
  let file: string | null = null;
  const flags: Flag[] = [];
  for (const arg of args) {
    const flag = /^--([a-z0-9-]+)(?:=(.*))?$/is.exec(arg);
    if (flag !== null) {
      flags.push({
        name: flag[1]!.toLowerCase(),
        values: flag[2] === undefined ? [] : [flag[2]],
      });
    } else if (flags.length > 0) {
      flags.at(-1)!.values.push(arg);
    } else if (file === null) {
      file = arg;
    } else {
      throw new Error(`unexpected argument '${arg}'`);
    }
  }
  const named = flags.findLast(({ name }) => name === 'config');
  if (named !== undefined) {
    if (named.values.length !== 1) throw new Error("'--config' needs a file");
    if (file !== null) throw new Error('two configuration files were given');
    file = named.values[0]!;
  }
  return { file, flags: flags.filter(({ name }) => name !== 'config') };
}

function assign(config: Config, name: string, values: string[]): void {
  if (assignDirective(config, name, values, `'--${name}'`)) return;
  const parameter = parameterOf(name);
  if (parameter === undefined) throw new Error(unknownText(name).replace('parameter', 'flag'));
  if (values.length === 0) {
    // A lone `--appendonly` reads as yes, which Redis refuses and people type.
    if (parameter.kind !== 'yes-no') throw new Error(`'--${name}' needs a value`);
    values = ['yes'];
  }
  try {
    config.assign(name, values, `--${name}`);
  } catch (error) {
    throw new Error(`bad value for '--${name}': ${(error as Error).message}`);
  }
}
