/**
 * Waits of tests, each with an end: what does not come about fails its test with a sentence, in place of
 * a file that hangs.
 *
 * Invariants: the condition is looked at first, so what has happened already is seen; a look that does not
 * return is given up as well. Cost: a look every 5 ms.
 */
import assert from 'node:assert/strict';
import type { EventEmitter } from 'node:events';

/** Far more than anything takes on a slow machine that does other work: it ends what would hang. */
const WAIT_MS = 60_000;
const EVERY_MS = 5;

/** Resolves when the condition holds; after `waitMs` it rejects with `what`, or with the condition's text. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what: string | (() => string) = textOf(holds),
  waitMs = WAIT_MS,
): Promise<void> {
  // Made here, so that its stack shows the line that waits.
  const failure = new assert.AssertionError({ message: '', stackStartFn: until });
  let timer: NodeJS.Timeout | undefined;
  let isLate = false;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      isLate = true;
      failure.message = `not within ${waitMs} ms: ${typeof what === 'string' ? what : what()}`;
      reject(failure);
    }, waitMs);
  });
  const look = async () => {
    while (!(await holds()) && !isLate) await new Promise((next) => setTimeout(next, EVERY_MS));
  };
  try {
    await Promise.race([look(), late]);
  } finally {
    clearTimeout(timer);
  }
}

function textOf(holds: () => unknown): string {
  return String(holds).replace(/^(async )?\(\) =>\s*/, '');
}

/** The events of one name from now on, in order, each once: none is lost between two waits. */
export function inbox<T = unknown>(emitter: EventEmitter, name: string): () => Promise<T> {
  const waiting: T[] = [];
  emitter.on(name, (first: T) => waiting.push(first));
  return async () => {
    await until(() => waiting.length > 0, `no further '${name}'`);
    return waiting.shift() as T;
  };
}
