/**
 * Keyspace notifications: what happened to which key, published on the channels
 * `__keyspace@<db>__:<key>` (the message is the event) and `__keyevent@<db>__:<event>` (it is the key).
 *
 * Events are gathered while a command or EXEC runs and published when it has settled, so that a push
 * never interrupts a reply. Nothing of it is durable.
 * Invariant: `engine.events` is null while `notify-keyspace-events` names no class that exists;
 * so it costs one compare per change where it is off.
 * Source: Redis 7.0 notify.c.
 */
import type { Channels } from './channels.ts';

/** Redis's letters for classes of events; those of types that are not here never happen. */
export const EventClass = {
  KEYSPACE: 1,
  KEYEVENT: 2,
  GENERIC: 4,
  STRING: 8,
  STREAM: 16,
  EXPIRED: 32,
  MISSED: 64,
  NEW: 128,
} as const;

const LETTERS: Readonly<Record<string, number>> = {
  K: EventClass.KEYSPACE,
  E: EventClass.KEYEVENT,
  g: EventClass.GENERIC,
  $: EventClass.STRING,
  t: EventClass.STREAM,
  x: EventClass.EXPIRED,
  m: EventClass.MISSED,
  n: EventClass.NEW,
  A: EventClass.GENERIC | EventClass.STRING | EventClass.STREAM | EventClass.EXPIRED,
};
const CHANNELS = EventClass.KEYSPACE | EventClass.KEYEVENT;

/** The classes that the value of `notify-keyspace-events` names; 0 when none is to be published. */
export function readEventClasses(value: string): number {
  let classes = 0;
  for (const letter of value) classes |= LETTERS[letter] ?? 0;
  return (classes & CHANNELS) === 0 || (classes & ~CHANNELS) === 0 ? 0 : classes;
}

interface Event {
  readonly database: number;
  readonly name: string;
  readonly key: Buffer;
}

export class KeyspaceEvents {
  readonly #classes: number;
  readonly #channels: Channels;
  #gathered: Event[] = [];

  constructor(classes: number, channels: Channels) {
    this.#classes = classes;
    this.#channels = channels;
  }

  /** `key` is copied. */
  add(eventClass: number, name: string, database: number, key: Uint8Array): void {
    if ((this.#classes & eventClass) === 0) return;
    if (this.#channels.channelCount + this.#channels.patternCount === 0) return;
    this.#gathered.push({ database, name, key: Buffer.from(key) });
  }

  /** Publishes what was gathered. */
  publish(): void {
    if (this.#gathered.length === 0) return;
    const events = this.#gathered;
    this.#gathered = [];
    for (const { database, name, key } of events) {
      const event = Buffer.from(name, 'latin1');
      if ((this.#classes & EventClass.KEYSPACE) !== 0) {
        const prefix = Buffer.from(`__keyspace@${database}__:`, 'latin1');
        this.#channels.publish(Buffer.concat([prefix, key]), event);
      }
      if ((this.#classes & EventClass.KEYEVENT) !== 0) {
        this.#channels.publish(Buffer.from(`__keyevent@${database}__:${name}`, 'latin1'), key);
      }
    }
  }
}
