/**
 * A command that needs many cold blocks waits while they are read, in slices (engine's read-ahead.ts).
 *
 * The command is dispatched again when they are there, with every check, and then runs as one step.
 * Invariants: a command waits once; while it waits no other command of its client runs; what was read is
 * let go as soon as the command has run, or cannot run now.
 * Cost: nothing for commands that never wait.
 */
import {
  type NeededBlocks,
  type ReadAhead,
  readAhead,
} from '../../engine/checkpoint/read-ahead.ts';
import type { ServerState } from '../server-state.ts';
import { READING, type Suspension } from './suspension.ts';

/** Longest slice, ms; of all clients together, in one turn. */
const SLICE_MS = 2;

/** The client whose command waits. */
export interface ReadingClient {
  readonly server: ServerState;
  readonly suspension: Suspension;
  readonly args: Parameters<Suspension['keep']>[0];
  readonly isClosed: boolean;
  /** The blocks are there: the command is dispatched again. */
  blocksRead(): void;
}

export class ReadingFirst {
  readonly #client: ReadingClient;
  #ahead: ReadAhead | null = null;
  /** The command has waited, and has not run since. */
  #hasWaited = false;

  constructor(client: ReadingClient) {
    this.#client = client;
  }

  /** True when the running command has to wait: it is kept. */
  begin(needed: NeededBlocks): boolean {
    // What it has read may be what memory is short of: it would be held, and read again, without end.
    if (this.#ahead !== null || this.#hasWaited) return false;
    this.#ahead = readAhead(needed);
    if (this.#ahead === null || this.#slice(this.#ahead)) return false;
    this.#hasWaited = true;
    this.#client.suspension.keep(this.#client.args, READING);
    setImmediate(this.#goOn);
    return true;
  }

  /** The command has run (`hasRun`), or waits for something else. */
  end(hasRun: boolean): void {
    this.#ahead?.end();
    this.#ahead = null;
    if (hasRun) this.#hasWaited = false;
  }

  /** True when all is read. */
  #slice(ahead: ReadAhead): boolean {
    const { server } = this.#client;
    try {
      ahead.stepFor(SLICE_MS, () => server.monotonic());
    } catch (error) {
      // The command reads the blocks itself.
      server.failures.note('reading blocks for a command', error);
      return true;
    }
    return ahead.isDone;
  }

  readonly #goOn = (): void => {
    const client = this.#client;
    const ahead = this.#ahead;
    if (ahead === null) return;
    if (!client.isClosed && client.suspension.has(READING)) {
      if (!this.#slice(ahead)) {
        setImmediate(this.#goOn);
        return;
      }
      client.blocksRead();
    }
    // It was not dispatched: the client is closed, or something else suspends it. (Where it was, a later
    // command of the client may wait by now.)
    if (this.#ahead === ahead) this.end(false);
  };
}
