/**
 * Server-sent events: the text form, and the head of such an answer.
 *
 * Invariant: no part of an event can end it early or begin another one: ids have no line ends, data is
 * split at every kind of line end. Cost: one pass over the data.
 */
import type { Answer } from '../answer.ts';

export interface ServerSentEvent {
  readonly id?: string;
  readonly event?: string;
  readonly data: string;
}

const LF = 10;
const CR = 13;
const PREFIX = Buffer.from('data: ');

export function sseEvent({ id, event, data }: ServerSentEvent): string {
  const head = `${id === undefined ? '' : `id: ${oneWord(id)}\n`}${event === undefined ? '' : `event: ${oneWord(event)}\n`}`;
  return `${head}${dataLines(data)}\n`;
}

/** Each line behind `data: `. Byte by byte: a body of millions of line ends would take seconds as a list. */
function dataLines(data: string): string {
  if (!data.includes('\n') && !data.includes('\r')) return `data: ${data}\n`;
  const bytes = Buffer.from(data);
  let lines = 1;
  for (const byte of bytes) if (byte === LF || byte === CR) lines++;
  const to = Buffer.allocUnsafe(bytes.length + lines * (PREFIX.length + 1));
  let at = 0;
  const begin = () => {
    for (let i = 0; i < PREFIX.length; i++) to[at++] = PREFIX[i] as number;
  };
  begin();
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] as number;
    if (byte !== LF && byte !== CR) {
      to[at++] = byte;
      continue;
    }
    if (byte === CR && bytes[i + 1] === LF) i++;
    to[at++] = LF;
    begin();
  }
  to[at++] = LF;
  return to.toString('utf8', 0, at);
}

/** Takes the answer from fastify and sends its head, so that the client knows that it is connected. */
export function startEventStream(reply: Answer, retryMs = 2000): void {
  reply.hijack();
  reply.raw.writeHead(200, {
    ...(reply.getHeaders() as Record<string, string>),
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    // Proxies that gather answers would hold the events back.
    'x-accel-buffering': 'no',
  });
  reply.raw.write(`retry: ${retryMs}\n\n`);
}

function oneWord(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: NUL and line ends are what it removes
  return text.replace(/[\u0000\r\n]/g, '');
}
