/**
 * go.api.Event as the body of a message: JSON, or protobuf as go-micro's own gateway writes it.
 *
 * Proto: name = 1, id = 2, timestamp = 3 (int64), header = 4 (map of Pair {key = 1, values = 2}), data = 5.
 */
import type { Message } from '../../broker/message/message.ts';

export interface GatewayEvent {
  readonly id: string;
  readonly name: string;
  /** Unix seconds. */
  readonly timestamp: number;
  readonly header: Readonly<Record<string, { key: string; values: readonly string[] }>>;
  readonly data: string;
}

/** The message gets the headers, and its content type among them. */
export function encodeEvent(
  event: GatewayEvent,
  codec: 'json' | 'protobuf',
  headers: Record<string, string>,
): Message {
  const isJson = codec === 'json';
  headers['Content-Type'] = isJson ? 'application/json' : 'application/protobuf';
  return {
    headers,
    body: isJson ? Buffer.from(JSON.stringify(event)) : protobufEvent(event),
  };
}

/** Name and data of an event that was encoded here, in either form; null for what is no such event. */
export function contentOf(body: Uint8Array | string): Pick<GatewayEvent, 'name' | 'data'> | null {
  const bytes = Buffer.from(body as Uint8Array);
  try {
    if (bytes[0] === BRACE) {
      const { name, data } = JSON.parse(bytes.toString()) as GatewayEvent;
      return { name, data };
    }
    let name = '';
    for (let at = 0; at < bytes.length; ) {
      const [tag, next] = readVarint(bytes, at);
      const [length, from] = readVarint(bytes, next);
      const field = tag >> 3;
      if ((tag & 7) === 0) at = from;
      else if (field === 5) return { name, data: bytes.toString('utf8', from, from + length) };
      else at = from + length;
      if (field === 1) name = bytes.toString('utf8', from, from + length);
    }
    return { name, data: '' };
  } catch {
    return null;
  }
}

const BRACE = 0x7b;

function readVarint(bytes: Buffer, from: number): [value: number, next: number] {
  let value = 0;
  let at = from;
  for (let scale = 1; ; scale *= 128) {
    const byte = bytes[at++];
    if (byte === undefined) throw new RangeError('a number is cut');
    value += (byte & 127) * scale;
    if (byte < 128) return [value, at];
  }
}

function protobufEvent({ name, id, timestamp, header, data }: GatewayEvent): Buffer {
  const pairs = Object.entries(header).map(([key, pair]) => {
    const values = pair.values.map((value) => text(2, value));
    const message = Buffer.concat([text(1, pair.key), ...values]);
    return bytes(4, Buffer.concat([text(1, key), bytes(2, message)]));
  });
  return Buffer.concat([
    text(1, name),
    text(2, id),
    Buffer.concat([varint(3 << 3), varint(timestamp)]),
    ...pairs,
    text(5, data),
  ]);
}

function text(field: number, value: string): Buffer {
  return value === '' ? Buffer.alloc(0) : bytes(field, Buffer.from(value));
}

function bytes(field: number, value: Buffer): Buffer {
  return Buffer.concat([varint((field << 3) | 2), varint(value.length), value]);
}

function varint(value: number): Buffer {
  const out: number[] = [];
  let rest = BigInt(value);
  while (rest > 127n) {
    out.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  out.push(Number(rest));
  return Buffer.from(out);
}
