/** The log of a command that runs until it is stopped: pino, on standard error. */
import pino from 'pino';
import type { Log } from '../rpc/context.ts';

/** Lines for a person on a terminal, JSON elsewhere. */
export function commandLog(): Log {
  const options = process.stderr.isTTY
    ? { transport: { target: 'pino-pretty', options: { destination: 2, ignore: 'pid,hostname' } } }
    : {};
  return process.stderr.isTTY
    ? pino(options)
    : pino({ base: null }, pino.destination({ dest: 2, sync: false }));
}
