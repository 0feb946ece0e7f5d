/**
 * The two sides of requests and calls, as their programs see them.
 *
 * Contract only.
 */
import type { RivuletError } from '../../errors.ts';
import type { Message } from '../message/message.ts';
import type { ReceivedMessage } from '../message/received-message.ts';

/**
 * Answers a request: a message, or an async iterable of messages for many replies. Throwing sends
 * the error (code and text) to the requester. What an iterator returns at its end, where it has
 * `headers`, reaches the requester as the call's trailers.
 */
export type Responder = (
  request: ReceivedMessage,
  context: ResponderContext,
) => Message | AsyncIterable<Message> | Promise<Message | AsyncIterable<Message>>;

export interface ResponderContext {
  /** Aborted when the caller cancels, its connection is lost, or its time is up. */
  readonly signal: AbortSignal;
  readonly topic: string;
  /**
   * The messages that the caller sends after the request (`Broker.call`); it ends when the caller has
   * ended its side. Empty for a plain request. The caller waits while these are not read.
   */
  readonly messages: AsyncIterableIterator<ReceivedMessage>;
}

/** The caller's side of a call with streams. */
export interface BrokerCall {
  /** Replies in order. The responder waits while they are not read. Leaving the loop cancels the call. */
  readonly messages: AsyncIterableIterator<ReceivedMessage>;
  /** Headers that the responder sent at its end. Rejects as the call does. */
  readonly trailers: Promise<Readonly<Record<string, string>>>;
  /**
   * Resolves when the next message may be sent. Rejects once the call has ended, and with
   * LIMIT_EXCEEDED when 1024 messages wait because the caller awaits nothing.
   */
  send(message: Message): Promise<void>;
  /** Ends the caller's messages. Replies go on. */
  end(): void;
  /** Ends the call for both sides. Replies already received can still be read; then ABORTED or the reason is thrown. */
  cancel(reason?: RivuletError): void;
}
