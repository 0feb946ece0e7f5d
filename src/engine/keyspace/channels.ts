/**
 * Publish/subscribe: channels, patterns, and their subscribers. Nothing here is durable.
 *
 * Invariant: a channel or pattern is here exactly while it has a subscriber.
 * Cost: publish is O(listeners of the channel + patterns).
 */
import { globMatches } from '../../util/glob.ts';

export interface Listener {
  message(channel: Buffer, payload: Buffer): void;
  patternMessage(pattern: Buffer, channel: Buffer, payload: Buffer): void;
}

interface Audience {
  readonly name: Buffer;
  readonly listeners: Set<Listener>;
}

export class Channels {
  private readonly channels = new Map<string, Audience>();
  private readonly patterns = new Map<string, Audience>();

  /** False when it listens already. */
  subscribe(channel: Buffer, listener: Listener): boolean {
    return join(this.channels, channel, listener);
  }

  /** False when it did not listen. */
  unsubscribe(channel: Buffer, listener: Listener): boolean {
    return leave(this.channels, channel, listener);
  }

  subscribePattern(pattern: Buffer, listener: Listener): boolean {
    return join(this.patterns, pattern, listener);
  }

  unsubscribePattern(pattern: Buffer, listener: Listener): boolean {
    return leave(this.patterns, pattern, listener);
  }

  /** How many listeners got it; one that listens in several ways counts, and gets it, several times. */
  publish(channel: Buffer, payload: Buffer): number {
    let receivers = 0;
    const audience = this.channels.get(channel.toString('latin1'));
    if (audience !== undefined) {
      for (const listener of audience.listeners) listener.message(audience.name, payload);
      receivers += audience.listeners.size;
    }
    for (const { name, listeners } of this.patterns.values()) {
      if (!globMatches(name, channel)) continue;
      for (const listener of listeners) listener.patternMessage(name, channel, payload);
      receivers += listeners.size;
    }
    return receivers;
  }

  subscribers(channel: Buffer): number {
    return this.channels.get(channel.toString('latin1'))?.listeners.size ?? 0;
  }

  *channelNames(): Generator<Buffer> {
    for (const { name } of this.channels.values()) yield name;
  }

  get channelCount(): number {
    return this.channels.size;
  }

  get patternCount(): number {
    return this.patterns.size;
  }
}

function join(audiences: Map<string, Audience>, name: Buffer, listener: Listener): boolean {
  const key = name.toString('latin1');
  const audience = audiences.get(key);
  if (audience === undefined) {
    audiences.set(key, { name: Buffer.from(name), listeners: new Set([listener]) });
    return true;
  }
  if (audience.listeners.has(listener)) return false;
  audience.listeners.add(listener);
  return true;
}

function leave(audiences: Map<string, Audience>, name: Buffer, listener: Listener): boolean {
  const key = name.toString('latin1');
  const audience = audiences.get(key);
  if (audience === undefined || !audience.listeners.delete(listener)) return false;
  if (audience.listeners.size === 0) audiences.delete(key);
  return true;
}
