/**
 * `daemonize yes`: the server in its own session, without a terminal.
 *
 * The first process starts the same command line again, waits until that server is ready or has said why
 * it cannot start, prints the same line, and ends with 0 or 1. Node cannot fork: so it is a new process.
 */
import { spawn } from 'node:child_process';

const MARK = 'RIVULET_IN_BACKGROUND';

interface Outcome {
  readonly ready?: string;
  readonly failed?: string;
}

/** Whether this process is the one in the background. */
export function inBackground(): boolean {
  return process.env[MARK] === '1' && process.send !== undefined;
}

/** Reports the outcome of the start to the first process, and disconnects from it. */
export async function report(outcome: Outcome): Promise<void> {
  if (process.connected !== true) return;
  await new Promise<void>((resolve) => process.send!(outcome, () => resolve()));
  if (process.connected) process.disconnect();
}

/** Starts the server in the background. Resolves with its ready line; rejects with why it failed. */
export function startInBackground(): Promise<string> {
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env: { ...process.env, [MARK]: '1' },
  });
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(error));
    child.once('exit', (code, signal) => {
      reject(new Error(`the server in the background ended with ${code ?? signal}`));
    });
    child.once('message', ({ ready, failed }: Outcome) => {
      child.unref();
      if (child.connected) child.disconnect();
      if (ready === undefined) reject(new Error(failed));
      else resolve(ready);
    });
  });
}
