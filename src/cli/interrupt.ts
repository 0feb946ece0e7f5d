/**
 * Ctrl-C, a terminal that closes, and SIGTERM as a signal: the first one ends the work in order, the second ends
 * the process at once.
 */

const CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

export function interrupted(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit(CODES[signal]);
      controller.abort(signal);
    });
  }
  return controller.signal;
}

/** For work that ends by itself: a script must see that it did not. */
export function endedEarly({ aborted, reason }: AbortSignal): void {
  if (aborted) process.exitCode = CODES[reason as keyof typeof CODES] ?? 1;
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
