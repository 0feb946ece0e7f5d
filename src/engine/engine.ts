/**
 * The core: sixteen databases, blocked readers, publish/subscribe channels and the schedule, one
 * operation at a time, deterministic.
 */
import type { Journal } from '../storage/journal.ts';
import type { Clock } from '../util/clock.ts';
import type { Random } from '../util/random.ts';
import type { BlockedReaders } from './blocked-readers.ts';
import type { Channels } from './channels.ts';
import type { Database } from './database.ts';

export interface EngineOptions {
  clock: Clock;
  random: Random;
  journal: Journal;
  databases?: number;
}

export declare class Engine {
  readonly clock: Clock;
  readonly random: Random;
  readonly journal: Journal;
  readonly databases: Database[];
  readonly blocked: BlockedReaders;
  readonly channels: Channels;
  /** Cached unix ms of the current command: set by `turn`, constant within one command or EXEC. */
  now: number;
  /** True while records are being replayed: mutators then journal nothing and wake nobody. */
  replaying: boolean;

  constructor(options: EngineOptions);
  /** Before each command (or EXEC): refreshes `now`. */
  turn(): void;
  /** After each command or EXEC: serves readers whose keys were signalled, as Redis's handleClientsBlockedOnKeys. */
  settle(): void;
  /** Expiry cycle, overdue deadlines, IDMP expiry; called ten times a second and at nextDeadline(). */
  tick(): void;
  /** Unix ms at which tick() has something to do; Infinity when nothing waits. */
  nextDeadline(): number;
}
