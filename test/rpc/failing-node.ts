/**
 * A node of a service in a process of its own, to be stopped and killed.
 *
 * `startNode` is called by tests; the same file, run as a program, is the node. It prints nothing: over
 * IPC it tells its record, and each handler that begins or is cancelled.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import { bidi, contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { createService } from '../../src/service/service.ts';

export const NAME = 'test.failing';

export const Failing = contract(NAME, {
  Srv: {
    /** Answers with the id of the process. */
    Who: unary<{ text?: string }, { pid: number; remainingMs: number }>({ idempotent: true }),
    /** Never answers. */
    Hang: unary<undefined, string>(),
    /** Hangs in the first process that is asked. */
    HangOnce: unary<{ pid: number }, { pid: number }>({ idempotent: true }),
    /** Sends a number every 10 ms. */
    Ticks: serverStream<undefined, number>(),
    Echo: bidi<string, string>(),
  },
});

export interface FailingNode extends AsyncDisposable {
  readonly pid: number;
  readonly record: ServiceRecord;
  /** Resolves when so many handlers have begun. */
  begun(count: number): Promise<void>;
  signal(signal: NodeJS.Signals): void;
}

export interface NodeOptions {
  readonly transport: string;
  readonly broker?: string;
  /** Milliseconds by which the node's date is wrong. */
  readonly dateOffMs?: number;
}

export async function startNode(options: NodeOptions): Promise<FailingNode> {
  const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(options)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  let begun = 0;
  const waiting = new Set<() => void>();
  const ready = new Promise<ServiceRecord>((resolve, reject) => {
    child.on('message', (message: ServiceRecord | 'begun') => {
      if (message !== 'begun') resolve(message);
      else {
        begun++;
        for (const check of [...waiting]) check();
      }
    });
    child.once('exit', (code) => reject(new Error(`the node ended with ${code}`)));
  });
  const record = await ready;
  return {
    pid: child.pid as number,
    record,
    begun: (count) =>
      new Promise((resolve) => {
        const check = () => {
          if (begun < count) return;
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        check();
      }),
    signal: (signal) => void child.kill(signal),
    async [Symbol.asyncDispose]() {
      process.off('exit', kill);
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      kill();
      await ended;
    },
  };
}

async function main({ transport, broker, dateOffMs = 0 }: NodeOptions): Promise<void> {
  if (dateOffMs !== 0) {
    const now = Date.now;
    Date.now = () => now() + dateOffMs;
  }
  const registry = new MemoryRegistry();
  const service = createService({
    name: NAME,
    registry,
    transport,
    ...(broker === undefined ? {} : { broker }),
  });
  const tell = () => process.send?.('begun');
  const hang = () => new Promise<never>(() => {});
  service.handle(Failing, {
    Srv: {
      Who: (_, context) => ({ pid: process.pid, remainingMs: context.remainingMs() }),
      Hang() {
        tell();
        return hang();
      },
      HangOnce({ pid }) {
        tell();
        return pid === process.pid ? hang() : { pid: process.pid };
      },
      async *Ticks(_, context) {
        tell();
        for (let n = 0; !context.signal.aborted; n++) {
          yield n;
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
      },
      async *Echo(lines) {
        tell();
        for await (const line of lines) yield line;
      },
    },
  });
  await service.start();
  const [record] = await registry.getService(NAME);
  process.send?.(record as ServiceRecord);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main(JSON.parse(process.argv[2] ?? '{}'));
}
