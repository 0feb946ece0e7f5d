/**
 * The streams of a member: exchanges of everything, pings where datagrams do not arrive, long messages.
 *
 * Invariants: every stream ends within its time, one without a byte within `FIRST_BYTE_MS`, and is closed
 * however it ends; at most `MAX_SENDING` long
 * messages are sent at once, and `maxQueued` wait. Cost: one connection for each.
 */
import { type Cancel, pause, type Scheduler } from '../../../util/time/scheduler.ts';
import type { GossipSettings } from '../options.ts';
import { type Endpoint, textOf } from '../wire/endpoint.ts';
import {
  ACK,
  type Answer,
  ERROR,
  encodeMessage,
  Fields,
  messageFrom,
  PING,
  type Ping,
  PUSH_PULL,
  USER,
} from '../wire/messages.ts';
import type { GossipNetwork, GossipStream } from '../wire/network.ts';
import { encodeUserStream, type RingState, readState, readUserStream } from '../wire/push-pull.ts';
import { Malformed } from '../wire/raw-msgpack.ts';
import type { Sealer } from '../wire/seal.ts';
import { StreamSource } from '../wire/stream-source.ts';
import type { Member } from './member-table.ts';

export interface RingStreamsOptions {
  readonly settings: GossipSettings;
  readonly scheduler: Scheduler;
  readonly network: GossipNetwork;
  readonly sealer: Sealer | null;
  /** Aborted when the ring closes. */
  readonly signal: AbortSignal;
  readonly self: () => Member;
  /** Everything that this member knows, encoded. */
  readonly stateOf: (isJoin: boolean) => Promise<Uint8Array>;
  readonly onState: (state: RingState) => Promise<void>;
  readonly onUser: (bytes: Uint8Array) => void;
  readonly onRefused: (where: string, reason: string) => void;
}

/** Members write at once when they have connected. */
const FIRST_BYTE_MS = 2500;
/** Streams with long messages at once. */
const MAX_SENDING = 8;

export class RingStreams {
  readonly #options: RingStreamsOptions;
  /** By what they are about and to which member: a newer one replaces an older one. */
  readonly #longMessages = new Map<string, { readonly bytes: Uint8Array; readonly to: Endpoint }>();
  #sending = 0;
  #whenIdle: () => void = () => {};

  constructor(options: RingStreamsOptions) {
    this.#options = options;
  }

  /** A stream that another opened. */
  async serve(stream: GossipStream, from: Endpoint): Promise<void> {
    const { settings, scheduler, signal, onRefused } = this.#options;
    if (signal.aborted) return;
    const { maxStateBytes, streamTimeoutMs } = settings;
    const where = `a stream from ${from.host}`;
    const source = new StreamSource(stream, maxStateBytes);
    const begun = scheduler.monotonic();
    try {
      const firstMs = Math.min(FIRST_BYTE_MS, streamTimeoutMs);
      if (!(await this.#within(firstMs, stream, () => source.begins()))) return;
      const left = streamTimeoutMs - (scheduler.monotonic() - begun);
      await this.#within(left, stream, () => this.#serve(stream, source, where));
    } catch (error) {
      if (signal.aborted || !(error instanceof Malformed)) return;
      onRefused(where, error.message);
    }
  }

  async #serve(stream: GossipStream, source: StreamSource, where: string): Promise<void> {
    const { settings, sealer, signal, self, stateOf, onState, onUser, onRefused } = this.#options;
    const type = await source.type(sealer);
    if (type === null) return;
    if (type === PUSH_PULL) {
      const onBad = (reason: string) => onRefused(`a member in ${where}`, reason);
      const state = await readState(source, settings.maxMembers, onBad);
      await this.#write(stream, await stateOf(state.isJoin));
      await onState(state);
    } else if (type === USER) {
      const bytes = await readUserStream(source);
      // The port of a stream is not the member's.
      if (!signal.aborted) onUser(bytes);
    } else if (type === PING) {
      const ping = messageFrom(PING, await source.value()) as Ping;
      if (ping.node !== '' && ping.node !== self().name) return;
      await this.#write(stream, encodeMessage({ type: ACK, seq: ping.seq }));
    } else throw new Malformed(`a stream of type ${type} is not known`);
  }

  /** Whether the member answers a ping by stream. */
  async ping(ping: Ping, member: Member, withinMs: number): Promise<boolean> {
    return this.#converse(member.endpoint, withinMs, encodeMessage(ping), async (source, type) => {
      if (type !== ACK) return false;
      return (messageFrom(ACK, await source.value()) as Answer).seq === ping.seq;
    });
  }

  /** Exchanges everything with the member at this address. */
  async exchange(to: Endpoint, isJoin: boolean): Promise<void> {
    const { settings, stateOf, onState, onRefused } = this.#options;
    const { streamTimeoutMs, maxMembers } = settings;
    const onBad = (reason: string) => onRefused(`a member in the state of ${textOf(to)}`, reason);
    const state = await this.#converse(
      to,
      streamTimeoutMs,
      await stateOf(isJoin),
      async (source, type) => {
        if (type === PUSH_PULL) return readState(source, maxMembers, onBad);
        if (type !== ERROR) throw new Malformed(`it answered with type ${type}`);
        const text = Buffer.from(new Fields(await source.value()).bytes('Error')).toString();
        throw new Malformed(`it refused: ${text.slice(0, 300)}`);
      },
    );
    await onState(state);
  }

  async #converse<T>(
    to: Endpoint,
    withinMs: number,
    bytes: Uint8Array,
    read: (source: StreamSource, type: number) => Promise<T>,
  ): Promise<T> {
    const { settings, scheduler, sealer } = this.#options;
    const begun = scheduler.monotonic();
    const stream = await this.#connect(to, withinMs);
    const left = withinMs - (scheduler.monotonic() - begun);
    try {
      return await this.#within(left, stream, async () => {
        await this.#write(stream, bytes);
        const source = new StreamSource(stream, settings.maxStateBytes);
        const type = await source.type(sealer);
        if (type === null) throw new Malformed('it closed the stream without an answer');
        return read(source, type);
      });
    } finally {
      stream.close();
    }
  }

  /** A connection that comes too late is closed. */
  async #connect(to: Endpoint, withinMs: number): Promise<GossipStream> {
    const connecting = this.#options.network.connect(to);
    const late = new AbortController();
    try {
      return await Promise.race([
        connecting,
        pause(this.#options.scheduler, withinMs, late.signal).then(() => {
          throw new Error(`no connection within ${withinMs} ms`);
        }),
      ]);
    } catch (error) {
      connecting.then(
        (stream) => stream.close(),
        () => {},
      );
      throw error;
    } finally {
      late.abort();
    }
  }

  #write(stream: GossipStream, bytes: Uint8Array): Promise<void> {
    const { sealer } = this.#options;
    return stream.write(sealer === null ? bytes : sealer.sealStream(bytes));
  }

  /** Closes the stream where the work takes longer. */
  async #within<T>(ms: number, stream: GossipStream, work: () => Promise<T>): Promise<T> {
    let cancel: Cancel = () => {};
    const late = new Promise<never>((_, reject) => {
      cancel = this.#options.scheduler.after(
        Math.max(0, ms),
        () => {
          reject(new Error(`no answer within ${Math.round(ms)} ms`));
          stream.close();
        },
        false,
      );
    });
    try {
      return await Promise.race([work(), late]);
    } finally {
      cancel();
    }
  }

  /** A message that no datagram has room for, to each of the members. */
  sendLong(about: string, bytes: Uint8Array, to: readonly Member[]): void {
    for (const { endpoint } of to) {
      const key = `${textOf(endpoint)} ${about}`;
      const isNew = !this.#longMessages.delete(key);
      if (isNew && this.#longMessages.size >= this.#options.settings.maxQueued) break;
      this.#longMessages.set(key, { bytes, to: endpoint });
    }
    const { signal } = this.#options;
    while (!signal.aborted && this.#sending < MAX_SENDING && this.#longMessages.size > 0)
      void this.#sendLongMessages();
  }

  /** Resolves when the long messages are sent, or after the time of a stream. */
  async idle(): Promise<void> {
    if (this.#sending === 0) return;
    const { scheduler, settings } = this.#options;
    await new Promise<void>((resolve) => {
      const cancel = scheduler.after(settings.streamTimeoutMs, resolve);
      this.#whenIdle = () => {
        cancel();
        resolve();
      };
    });
  }

  async #sendLongMessages(): Promise<void> {
    this.#sending++;
    for (let next = this.#nextLong(); next !== null; next = this.#nextLong()) {
      // A member that cannot be reached gets it with the next exchange or renewal.
      await this.#sendByStream(next.bytes, next.to).catch(() => {});
    }
    this.#sending--;
    if (this.#sending === 0) this.#whenIdle();
  }

  #nextLong(): { readonly bytes: Uint8Array; readonly to: Endpoint } | null {
    const [first] = this.#longMessages;
    if (first === undefined || this.#options.signal.aborted) return null;
    this.#longMessages.delete(first[0]);
    return first[1];
  }

  async #sendByStream(bytes: Uint8Array, to: Endpoint): Promise<void> {
    const { streamTimeoutMs } = this.#options.settings;
    const stream = await this.#connect(to, streamTimeoutMs);
    try {
      await this.#within(streamTimeoutMs, stream, async () => {
        await this.#write(stream, encodeUserStream(bytes));
      });
    } finally {
      stream.close();
    }
  }
}
