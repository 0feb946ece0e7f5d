/**
 * `run`: a service from its start until SIGINT or SIGTERM.
 *
 * Invariants: the first SIGINT or SIGTERM stops in order; a second one ends the process at once, as it
 * would without us; no listener is left behind. Cost: two signal listeners.
 */

/** What `run` can run: a service, a worker of workflows, anything with a start and a stop. */
export interface Runnable {
  start(): Promise<void>;
  /** Lets calls and messages that have begun finish. Idempotent. */
  stop(): Promise<void>;
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Resolves when everything has stopped: by a signal, or because `stopped` resolved. */
export async function runUntilSignal(runnable: Runnable, stopped: Promise<void>): Promise<void> {
  let wake: () => void = () => {};
  const signalled = new Promise<void>((resolve) => {
    wake = resolve;
  });
  const forget = () => {
    for (const signal of SIGNALS) process.removeListener(signal, onSignal);
  };
  const onSignal = () => {
    // From here on a second signal has its usual effect.
    forget();
    wake();
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  try {
    await runnable.start();
    await Promise.race([signalled, stopped]);
  } finally {
    forget();
    await runnable.stop();
  }
}
