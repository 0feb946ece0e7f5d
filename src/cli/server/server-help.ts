/**
 * `micro server --help`, out of the table of parameters.
 */
import { PARAMETERS } from '../../server/config/config-parameters.ts';

export function serverHelp(): string {
  const explained = PARAMETERS.filter(({ help }) => help !== undefined);
  const names = explained.map(({ name }) => name.length);
  const width = Math.max(...names) + 2;
  const rows = explained.map(({ name, help, default: value }) => {
    const shown = value === '' ? '' : ` (default ${value})`;
    return `  --${name.padEnd(width)}${help}${shown}`;
  });
  const others = PARAMETERS.filter(({ help, inert }) => help === undefined && !inert);
  const inert = PARAMETERS.filter((parameter) => parameter.inert);
  return `Usage: micro server [FILE] [--name value ...]

Runs the stream server. FILE (or --config FILE) is a configuration file in Redis's syntax; flags win
over it. --api [HOST:PORT] runs the HTTP gateway in the same process (default 127.0.0.1:8080; see
micro api --help), --api-config FILE configures it. Every parameter of the file is also a flag:

${rows.join('\n')}

Further, with Redis's meaning: ${wrapped(others.map(({ name }) => name))}

Accepted for compatibility, without effect: ${wrapped(inert.map(({ name }) => name))}`;
}

function wrapped(names: readonly string[]): string {
  const lines: string[] = [];
  let line = '';
  for (const name of names) {
    if (line.length + name.length > 96) {
      lines.push(line);
      line = '';
    }
    line += ` ${name}`;
  }
  return `\n ${[...lines, line].join('\n ')}`;
}
