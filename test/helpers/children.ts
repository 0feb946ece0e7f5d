/**
 * Child processes of a test: none outlives it.
 *
 * Holds: every process started here that still runs. They are killed when this process exits,
 * whether the tests passed, failed, threw or were interrupted.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

const running = new Set<ChildProcess>();

process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => process.exit(1));
}

export function startChild(
  command: string,
  args: readonly string[],
  options: SpawnOptions = {},
): ChildProcess {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  running.add(child);
  child.once('exit', () => running.delete(child));
  child.once('error', () => running.delete(child));
  return child;
}

/** Resolves with the exit code, or the signal's name, once the child has ended. */
export function ended(child: ChildProcess): Promise<number | string> {
  if (child.exitCode !== null) return Promise.resolve(child.exitCode);
  if (child.signalCode !== null) return Promise.resolve(child.signalCode);
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
}

export interface ToolResult {
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ToolOptions extends SpawnOptions {
  /** Written to the tool's standard input. */
  readonly input?: string;
  /** @default 60000 */
  readonly timeoutMs?: number;
}

/** Runs a tool to its end and returns what it printed; kills it and rejects when it takes too long. */
export async function runTool(
  command: string,
  args: readonly string[],
  options: ToolOptions = {},
): Promise<ToolResult> {
  const { input, timeoutMs = 60_000, ...spawnOptions } = options;
  const stdio = [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] as const;
  const child = startChild(command, args, { ...spawnOptions, stdio: [...stdio] });
  const output = { stdout: '', stderr: '' };
  child.stdout?.setEncoding('utf8').on('data', (text) => (output.stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text) => (output.stderr += text));
  if (input !== undefined) child.stdin?.end(input);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(
        new Error(
          `${command} ${args.join(' ')} took longer than ${timeoutMs} ms\n${output.stdout}${output.stderr}`,
        ),
      );
    }, timeoutMs);
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code: code ?? signal ?? 'unknown', ...output });
    });
  });
}

/** Stops a process as SIGSTOP does, and returns when it stands still: the signal itself is not waited for. */
export function standStill(child: ChildProcess): void {
  child.kill('SIGSTOP');
  const end = performance.now() + 2000;
  while (performance.now() < end) {
    try {
      const stat = readFileSync(`/proc/${child.pid}/stat`, 'utf8');
      if (/^[Tt]/.test(stat.slice(stat.lastIndexOf(')') + 2))) return;
    } catch {
      // Not Linux, or it has ended.
      return;
    }
  }
}
