/**
 * Requests and replies of command services, in protobuf and in JSON.
 *
 *   HelpRequest {}             HelpResponse { string usage = 1; string description = 2; }
 *   ExecRequest { repeated string args = 1; }   ExecResponse { bytes result = 1; string error = 2; }
 *
 * Invariants: unknown fields are skipped; bytes that are no such message are DECODING_FAILED. In JSON,
 * which only services without a .proto are asked in, `result` is a text. Cost: one walk.
 */
import { protobufjs } from '../../codec/proto/protobufjs.ts';
import { RivuletError } from '../../errors.ts';

export interface CommandHelp {
  readonly usage: string;
  readonly description: string;
}

export interface CommandResult {
  readonly result: string;
  readonly error: string;
}

export interface CommandForm {
  readonly contentType: string;
  helpRequest(): Uint8Array;
  help(reply: Uint8Array): CommandHelp;
  execRequest(args: readonly string[]): Uint8Array;
  result(reply: Uint8Array): CommandResult;
}

export const protobufForm: CommandForm = {
  contentType: 'application/protobuf',
  helpRequest: () => new Uint8Array(0),
  help(reply) {
    const [usage, description] = twoFields(reply);
    return { usage: usage.toString(), description: description.toString() };
  },
  execRequest(args) {
    const writer = protobufjs().Writer.create();
    for (const arg of args) writer.uint32(10).string(arg);
    return writer.finish();
  },
  result(reply) {
    const [result, error] = twoFields(reply);
    return { result: result.toString(), error: error.toString() };
  },
};

export const jsonForm: CommandForm = {
  contentType: 'application/json',
  helpRequest: () => Buffer.from('{}'),
  help(reply) {
    const { usage, description } = fieldsOf(reply);
    return { usage: textOf(usage), description: textOf(description) };
  },
  execRequest: (args) => Buffer.from(JSON.stringify({ args })),
  result(reply) {
    const { result, error } = fieldsOf(reply);
    return { result: textOf(result), error: textOf(error) };
  },
};

/** The last values of fields 1 and 2, which have lengths in both messages. */
function twoFields(bytes: Uint8Array): [Buffer, Buffer] {
  const found: [Buffer, Buffer] = [Buffer.alloc(0), Buffer.alloc(0)];
  try {
    const reader = protobufjs().Reader.create(bytes);
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag === 10 || tag === 18) found[tag === 10 ? 0 : 1] = Buffer.from(reader.bytes());
      else reader.skipType(tag & 7);
    }
  } catch (cause) {
    throw new RivuletError('DECODING_FAILED', 'the reply is not protobuf', { cause });
  }
  return found;
}

function fieldsOf(reply: Uint8Array): Record<string, unknown> {
  try {
    const value = JSON.parse(Buffer.from(reply).toString() || '{}');
    if (typeof value === 'object' && value !== null) return value;
  } catch {}
  throw new RivuletError('DECODING_FAILED', 'the reply is not a JSON object');
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
