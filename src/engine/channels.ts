/**
 * Publish/subscribe: channels and patterns, and who listens. Nothing here is durable.
 */
export interface Listener {
  message(channel: Buffer, payload: Buffer): void;
  patternMessage(pattern: Buffer, channel: Buffer, payload: Buffer): void;
}

export declare class Channels {
  subscribe(channel: Buffer, listener: Listener): boolean;
  unsubscribe(channel: Buffer, listener: Listener): boolean;
  subscribePattern(pattern: Buffer, listener: Listener): boolean;
  unsubscribePattern(pattern: Buffer, listener: Listener): boolean;
  /** How many listeners got it. */
  publish(channel: Buffer, payload: Buffer): number;
  subscribers(channel: Buffer): number;
  channelNames(): Iterable<Buffer>;
  readonly patternCount: number;
}
