/**
 * Messages as the parts of a request or a reply: a head and the body.
 *
 * The head is JSON, `{"headers":{...},"key":"..."}`, or empty for a message without both. A single part,
 * as other programs may send it, is a body. Cost: a message without headers is not encoded.
 */
import type { CommandArgument } from '../../client/command-encoder.ts';
import type { Reply } from '../../client/reply.ts';
import { ITEM_OVERHEAD } from '../../flow/receive-queue.ts';
import type { RawMessage } from '../message/message.ts';
import { headOf } from '../requests/call-costs.ts';

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});
const EMPTY = Buffer.alloc(0);

/** Appends head and body to a command. */
export function pushParts(command: CommandArgument[], message: RawMessage): void {
  command.push(headOf(message), message.body);
}

/** How many bytes of a window the parts from `at` on use, counted as the server does. */
export function costOfParts(items: readonly Reply[], at: number): number {
  let bytes = ITEM_OVERHEAD;
  for (let i = at; i < items.length; i++) bytes += (items[i] as Buffer).length;
  return bytes;
}

/** The headers in the head of an end, which has no body. */
export function headersFrom(head: Reply | undefined): Readonly<Record<string, string>> {
  return head === undefined ? NO_HEADERS : messageFrom([head, EMPTY], 0).headers;
}

/** The message in `items` from `at` on. A head in another form is ignored. */
export function messageFrom(items: readonly Reply[], at: number): RawMessage {
  if (items.length - at === 1) return { headers: NO_HEADERS, body: bytes(items[at]) };
  const head = items[at];
  const body = bytes(items[at + 1]);
  if (!(head instanceof Buffer) || head.length === 0) return { headers: NO_HEADERS, body };
  try {
    const { headers = NO_HEADERS, key } = JSON.parse(head.toString());
    return key === undefined ? { headers, body } : { headers, body, key };
  } catch {
    return { headers: NO_HEADERS, body };
  }
}

function bytes(item: Reply | undefined): Buffer {
  return item instanceof Buffer ? item : EMPTY;
}
