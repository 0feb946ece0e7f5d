/** A peer of the tcp transport that a test writes byte by byte. */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { readFailure } from '../../src/transport/tcp/tcp-client.ts';
import {
  Frame,
  FrameReader,
  FrameSplitter,
  FrameWriter,
  MAX_FRAME,
  PREFACE,
} from '../../src/transport/tcp/tcp-frame.ts';
import { NO_METADATA } from '../../src/transport/transport.ts';

/** A peer that writes what it likes and keeps the frames that come back. */
export class RawPeer {
  readonly writer = new FrameWriter();
  readonly #socket: Socket;
  readonly #frames: { type: number; stream: number; error?: string }[] = [];
  #wake: (() => void) | null = null;
  #isClosed = false;

  constructor(address: string) {
    const [host = '', port] = address.split(':');
    this.#socket = connect(Number(port), host);
    const splitter = new FrameSplitter(new FrameReader(), (frame) => {
      const { type, stream } = frame;
      const error = type === Frame.ERROR ? { error: readFailure(frame).message } : {};
      this.#frames.push({ type, stream, ...error });
      this.#wake?.();
    });
    this.#socket.on('data', (chunk: Buffer) => splitter.push(chunk));
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => {
      this.#isClosed = true;
      this.#wake?.();
    });
  }

  /** Whether it reads what comes. */
  reads(on: boolean): void {
    if (on) this.#socket.resume();
    else this.#socket.pause();
  }

  raw(bytes: string | Uint8Array): void {
    this.#socket.write(bytes);
  }

  flush(): void {
    for (const chunk of this.writer.take()) this.#socket.write(chunk);
  }

  greet({ token = '', version = 1, window = 1000 } = {}): void {
    this.raw(PREFACE);
    this.writer.begin(Frame.HELLO, 0);
    this.writer.u8(version);
    this.writer.u32(window);
    this.writer.u32(MAX_FRAME);
    this.writer.text(token);
    this.writer.text('peer');
    this.writer.u8(0);
    this.writer.end();
    this.flush();
  }

  open(stream: number, { kind = 0, name = 'svc A.B', body = Buffer.from('x') } = {}): void {
    this.writer.begin(Frame.OPEN, stream);
    this.writer.u8(kind);
    this.writer.name(name);
    this.writer.varint(0);
    this.writer.contentType('application/json');
    this.writer.headers(NO_METADATA);
    this.writer.end(kind < 2 ? body : null);
    this.flush();
  }

  frame(type: number, stream: number, body: Uint8Array | null = null): void {
    this.writer.begin(type, stream);
    this.writer.end(body);
    this.flush();
  }

  async next(type: number) {
    for (;;) {
      const at = this.#frames.findIndex((frame) => frame.type === type);
      if (at >= 0) return this.#frames.splice(at, 1)[0];
      if (this.#isClosed) assert.fail(`closed without a frame of type ${type}`);
      await this.#wait();
    }
  }

  async closed(): Promise<void> {
    while (!this.#isClosed) await this.#wait();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #wait(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
