/** `micro` as a test runs it: the real binary, an environment of its own, one line of a shell. */
import { fileURLToPath } from 'node:url';
import { ended, runTool, startChild, type ToolResult } from '../helpers/children.ts';

export const MICRO = fileURLToPath(new URL('../../../bin/micro.js', import.meta.url));

export interface MicroOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly timeoutMs?: number;
}

/** Runs `micro ARGS...` to its end. */
export function micro(args: readonly string[], options: MicroOptions = {}): Promise<ToolResult> {
  return runTool(process.execPath, [MICRO, ...args], withEnv(options));
}

/** Runs one line of a shell in which `micro` is the binary. */
export function shell(line: string, options: MicroOptions = {}): Promise<ToolResult> {
  const script = `micro() { "${process.execPath}" "${MICRO}" "$@"; }\n${line}`;
  return runTool('/bin/sh', ['-c', script], withEnv(options));
}

/** Starts one line of a shell, waits for its ready line, ends it by SIGINT. */
export async function untilReady(line: string, options: MicroOptions = {}): Promise<ToolResult> {
  const script = line.replace(/^micro /, `exec "${process.execPath}" "${MICRO}" `);
  const child = startChild('/bin/sh', ['-c', script], withEnv(options));
  const output = { stdout: '', stderr: '' };
  child.stderr?.on('data', (text) => {
    output.stderr += text;
  });
  child.stdout?.on('data', (text) => {
    output.stdout += text;
    if (/ready on/.test(output.stdout)) child.kill('SIGINT');
  });
  const code = await ended(child);
  return { code, ...output };
}

/** No variable of the person who runs the tests reaches the command. */
function withEnv({ env, ...options }: MicroOptions) {
  const { PATH = '', HOME = '' } = process.env;
  return { ...options, env: { PATH, HOME, XDG_CONFIG_HOME: '/nonexistent', ...env } };
}
