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

export function sseEvent({ id, event, data }: ServerSentEvent): string {
  const head = `${id === undefined ? '' : `id: ${oneWord(id)}\n`}${event === undefined ? '' : `event: ${oneWord(event)}\n`}`;
  const lines = data.split(/\r\n|\r|\n/).map((line) => `data: ${line}\n`);
  return `${head}${lines.join('')}\n`;
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
