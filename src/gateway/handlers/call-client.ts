/**
 * The gateway's client: calls whose bodies pass through as the bytes that they are.
 *
 * Invariants: no codec reads a body, so no digit of a number and no byte of a message changes; services
 * of this process are called by their address as all others are. Cost: one frame each way.
 */

import { Codecs } from '../../codec/by-content-type.ts';
import type { Codec } from '../../codec/codec.ts';
import { Client } from '../../rpc/client.ts';
import { bidi, clientStream, serverStream, unary } from '../../rpc/contract.ts';
import type { CallOptions, ReplyStream } from '../../rpc/handlers.ts';
import type { Nouns } from '../../service/nouns.ts';
import type { MethodKind } from '../../transport/transport.ts';

const METHODS = {
  unary: unary<Uint8Array, Uint8Array>(),
  serverStream: serverStream<Uint8Array, Uint8Array>(),
  clientStream: clientStream<Uint8Array, Uint8Array>(),
  bidi: bidi<Uint8Array, Uint8Array>(),
} as const;

/** Any content type, unread. */
const untouched: Codec = {
  name: 'untouched',
  contentTypes: [
    'application/json',
    'application/protobuf',
    'application/proto',
    'application/x-protobuf',
    'application/octet-stream',
    'application/msgpack',
    'application/bson',
    'text/plain',
  ],
  encode: (value) => value as Uint8Array,
  decode: (bytes) => bytes,
};

export interface CallClientOptions {
  readonly name: string;
  readonly timeoutMs: number;
  readonly dialTimeoutMs?: number;
  readonly retries?: number;
}

export class CallClient {
  readonly #client: Client;

  constructor(nouns: Nouns, { name, timeoutMs, ...limits }: CallClientOptions) {
    this.#client = new Client({
      selector: nouns.selector,
      // The local transport carries values, and these are bytes.
      transports: async () => (await nouns.transports()).filter((each) => each.name !== 'local'),
      codecs: new Codecs([untouched]),
      requestTimeoutMs: timeoutMs,
      ...limits,
      fromService: () => name,
    });
  }

  /** One request, one reply. Rejects with ServiceError. */
  call(
    service: string,
    endpoint: string,
    body: Uint8Array,
    options: CallOptions,
  ): Promise<Uint8Array> {
    const reply = this.#client.invoke(service, endpoint, METHODS.unary, body, options);
    return reply as Promise<Uint8Array>;
  }

  /** A call with a stream in one direction or both; replies are read from what it returns. */
  async *stream(
    kind: Exclude<MethodKind, 'unary'>,
    service: string,
    endpoint: string,
    request: Uint8Array | AsyncIterable<Uint8Array>,
    options: CallOptions,
  ): AsyncGenerator<Uint8Array> {
    const replies = this.#client.invoke(service, endpoint, METHODS[kind], request, options);
    if (kind === 'clientStream') yield (await replies) as Uint8Array;
    else yield* replies as ReplyStream<Uint8Array>;
  }

  close(): Promise<void> {
    return this.#client.close();
  }
}
