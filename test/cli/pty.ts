/**
 * A terminal for a program: the pty of util-linux's `script`, typed into and read as a person would.
 *
 * Holds: everything that the program has written. Invariant: the program ends with the terminal.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ended, startChild } from '../helpers/children.ts';

export interface Terminal extends AsyncDisposable {
  type(keys: string): void;
  /** Resolves with everything since the last match, once it holds the expression. */
  until(expression: RegExp): Promise<string>;
  /** The exit code of the program. */
  readonly ended: Promise<number | string>;
}

const MICRO = fileURLToPath(new URL('../../../bin/micro.js', import.meta.url));
const WAIT_MS = 30_000;

/** For `skip`: false, or why no terminal can be opened. */
export function hasTerminal(): string | false {
  const isThere = spawnSync('script', ['--version'], { stdio: 'ignore' }).status === 0;
  return !isThere && 'needs script of util-linux, which this machine does not have';
}

/** Runs a line of a shell; `micro` in it is the binary. */
export function openTerminal(
  line: string,
  home: string,
  { columns = 80, env = {} }: { readonly columns?: number; readonly env?: NodeJS.ProcessEnv } = {},
): Terminal {
  const { PATH = '' } = process.env;
  const script = line.replace(/^micro\b/, `"${process.execPath}" "${MICRO}"`);
  const child = startChild(
    'script',
    ['-qec', `stty cols ${columns}; exec ${script}`, '/dev/null'],
    {
      cwd: home,
      env: { PATH, HOME: home, XDG_CONFIG_HOME: home, TERM: 'xterm', LANG: 'C.UTF-8', ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    },
  );
  let written = '';
  let read = 0;
  let changed = () => {};
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    written += text;
    changed();
  });
  child.stdin?.on('error', () => {});
  const over = ended(child);
  const until = async (expression: RegExp) => {
    const end = AbortSignal.timeout(WAIT_MS);
    for (;;) {
      const rest = written.slice(read);
      const found = expression.exec(rest);
      if (found !== null) {
        read += found.index + found[0].length;
        return rest;
      }
      if (end.aborted || child.exitCode !== null) {
        throw new Error(`the terminal never showed ${expression}: ${JSON.stringify(rest)}`);
      }
      await new Promise<void>((resolve) => {
        changed = resolve;
        end.addEventListener('abort', () => resolve(), { once: true });
        child.once('exit', () => resolve());
      });
    }
  };
  return {
    type: (keys) => void child.stdin?.write(keys),
    until,
    ended: over,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await over;
    },
  };
}
