/**
 * Streaming calls at the client: requests go out as they may, replies are read as they come.
 *
 * Invariants: the caller's iterable is read no faster than the server takes messages; when the call
 * ends, by either side, the iterable's `return` is called; leaving the loop over the replies cancels
 * the handler; a stream is never attempted again once a message has left. Cost: per message one
 * encoding or decoding and two promises.
 */
import type { Codec } from '../codec/codec.ts';
import { validate } from '../codec/standard-schema.ts';
import { RivuletError } from '../errors.ts';
import type { Call, OutgoingCall } from '../transport/transport.ts';
import type { Attempt, Client } from './client.ts';
import type { AnyMethod } from './contract.ts';
import { asServiceError } from './errors-wire.ts';
import type { CallOptions, ReplyStream } from './handlers.ts';
import { Metadata } from './metadata.ts';
import { outcomeOf } from './outcome.ts';

export interface StreamRequest {
  readonly service: string;
  readonly endpoint: string;
  readonly method: AnyMethod;
  /** The one request of a server stream, else the iterable of requests. */
  readonly request: unknown;
  readonly metadata: Metadata;
  readonly options: CallOptions;
}

type Caller = Pick<Client, 'nodes' | 'attempt' | 'deadlineOf' | 'left'>;

export function openStream(
  client: Caller,
  request: StreamRequest,
): ReplyStream<unknown> | Promise<unknown> {
  const stream = new Replies(client, request);
  return request.method.kind === 'clientStream' ? onlyReply(stream, request.endpoint) : stream;
}

async function onlyReply(stream: Replies, endpoint: string): Promise<unknown> {
  for await (const reply of stream) return reply;
  const text = `${endpoint} ended without a reply`;
  throw asServiceError(new RivuletError('PROTOCOL', text), null, null);
}

class Replies implements ReplyStream<unknown> {
  readonly metadata: Promise<Metadata>;
  readonly #request: StreamRequest;
  readonly #opening: Promise<{ call: Call; codec: Codec; done: Attempt['done'] }>;
  #call: Call | null = null;
  #isOver = false;
  #isCancelled = false;

  constructor(client: Caller, request: StreamRequest) {
    this.#request = request;
    this.#opening = this.#open(client);
    this.metadata = this.#opening.then(async ({ call }) => {
      const { metadata } = await call.head;
      const trailers = Object.keys(metadata).length === 0 ? await call.trailers : metadata;
      return Metadata.fromWire(trailers);
    });
    // Whoever reads only the replies learns of the failure there.
    this.metadata.catch(() => {});
    this.#opening.catch(() => {});
  }

  async next(): Promise<IteratorResult<unknown>> {
    const { method, endpoint } = this.#request;
    let codec: Codec | null = null;
    try {
      const opened = await this.#opening;
      codec = opened.codec;
      const { done, value } = await opened.call.messages.next();
      if (done) {
        this.#finish(opened.done, null);
        return { done: true, value: undefined };
      }
      const decoded = codec.decode(value, method.response.type);
      const { schema } = method.response;
      const item =
        schema === null ? decoded : await validate(schema, decoded, `a reply of ${endpoint}`);
      return { done: false, value: item };
    } catch (error) {
      this.cancel();
      await this.#opening.then(
        ({ done }) => this.#finish(done, error),
        () => {},
      );
      throw asServiceError(error, method, codec);
    }
  }

  async return(): Promise<IteratorResult<unknown>> {
    this.cancel();
    await this.#opening.then(
      ({ done }) => this.#finish(done, null),
      () => {},
    );
    return { done: true, value: undefined };
  }

  cancel(): void {
    if (this.#isOver) return;
    this.#isCancelled = true;
    this.#call?.cancel();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async #open(client: Caller) {
    const { service, endpoint, method, request, metadata, options } = this.#request;
    const deadline = client.deadlineOf(method, options, endpoint);
    const next = await client.nodes(service, options);
    const { channel, codec, contentType, done } = await client.attempt(
      service,
      next,
      method,
      options,
    );
    try {
      const isServerStream = method.kind === 'serverStream';
      const outgoing: OutgoingCall = {
        service,
        endpoint,
        kind: method.kind,
        contentType,
        metadata: metadata.toWire(),
        timeoutMs: client.left(deadline, endpoint),
        signal: options.signal ?? null,
        body: isServerStream ? codec.encode(request, method.request.type) : null,
      };
      const call = channel.open(outgoing);
      this.#call = call;
      if (this.#isCancelled) call.cancel();
      if (!isServerStream) void this.#sendAll(call, codec, request);
      return { call, codec, done };
    } catch (error) {
      done(outcomeOf(error));
      throw error;
    }
  }

  async #sendAll(call: Call, codec: Codec, requests: unknown): Promise<void> {
    const { method, endpoint } = this.#request;
    try {
      for await (const item of requests as AsyncIterable<unknown>) {
        await call.send(codec.encode(item, method.request.type));
      }
      call.end();
    } catch (error) {
      // The peer ended the call: its own outcome stands. Else the caller's iterable failed.
      if (this.#isOver) return;
      const known = error instanceof RivuletError ? error : null;
      const text = `the caller's stream to ${endpoint} failed: ${String(error)}`;
      call.cancel(known ?? new RivuletError('ABORTED', text, { cause: error }));
    }
  }

  #finish(done: Attempt['done'], error: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    done(error === null ? { result: 'ok' } : outcomeOf(error));
  }
}
