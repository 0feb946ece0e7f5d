/**
 * Messages as the parts of a request or a reply: a head and the body.
 *
 * The head is JSON, `{"headers":{...},"key":"..."}`, or empty where there is neither. A single part,
 * as other programs may send, is a body. Cost: a message without headers costs nothing.
 */
import type { CommandArgument } from '../client/command-encoder.ts';
import type { Reply } from '../client/reply.ts';
import type { Message } from './message.ts';

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});
const EMPTY = Buffer.alloc(0);

/** Appends head and body to a command. */
export function pushParts(command: CommandArgument[], { headers, key, body }: Message): void {
  let head = '';
  for (const _ in headers) {
    head = JSON.stringify(key === undefined ? { headers } : { headers, key });
    break;
  }
  if (head === '' && key !== undefined) head = JSON.stringify({ key });
  command.push(head, body);
}

/** The message in `items` from `at` on. What is no head of ours stays unread. */
export function messageFrom(items: readonly Reply[], at: number): Message {
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
