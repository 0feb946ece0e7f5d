/**
 * Reads a stream up to its present end.
 *
 * AMQP does not report where a stream ends. So the reader publishes a mark and reads until it receives
 * the mark: it has then read everything that was stored before the call.
 * Cost: one message in the stream and one channel for each reading.
 */
import type { ConsumeMessage } from 'amqplib';
import { RivuletError, type Scheduler } from 'rivulet/adapter';
import { toRivulet } from './errors.ts';
import type { Link } from './link.ts';
import { wireHeaders } from './message-codec.ts';
import type { Publisher } from './publishing/publisher.ts';

/** Unacknowledged messages of one reading. */
export const READ_WINDOW = 500;
/** A stream that sends nothing for this long has failed: it may have no leader. */
export const SILENT_MS = 5000;

export type StreamOffset = number | string | { '!': 'timestamp'; value: number };

export interface LogReaderSetup {
  readonly link: Link;
  readonly publisher: Publisher;
  readonly scheduler: Scheduler;
}

/**
 * Calls `each` for every message from `from` on, one at a time. Resolves to the offset of the mark; the
 * next reading begins after it. Rejects with NOT_CONNECTED if the stream is missing or unreadable.
 */
export async function readToEnd(
  { link, publisher, scheduler }: LogReaderSetup,
  stream: string,
  from: StreamOffset,
  each: (message: ConsumeMessage) => Promise<void> | void,
): Promise<number> {
  const id = await publishMark({ publisher, scheduler }, stream);
  const open = await link.channel();
  let stopTimer = () => {};
  try {
    await link.try(() => open.channel.prefetch(READ_WINDOW));
    return await new Promise<number>((resolve, reject) => {
      const fail = (text: string) =>
        reject(new RivuletError('NOT_CONNECTED', text, { cause: open.failure ?? undefined }));
      const watch = () => {
        stopTimer();
        stopTimer = scheduler.after(SILENT_MS, () =>
          fail(`the stream ${stream} sent nothing for ${SILENT_MS} ms`),
        );
      };
      let chain = Promise.resolve();
      const take = async (message: ConsumeMessage) => {
        watch();
        const mark = message.properties.headers?.[wireHeaders.mark];
        if (mark === id) resolve(offsetOf(message));
        else if (mark === undefined) await each(message);
        if (open.open) open.channel.ack(message);
      };
      watch();
      open.channel
        .consume(
          stream,
          (message) => {
            if (message === null) fail(`the stream ${stream} was deleted`);
            else chain = chain.then(() => take(message)).catch(reject);
          },
          { arguments: { 'x-stream-offset': from } },
        )
        .catch((error) => reject(toRivulet(error)));
      void open.ended.then(() => fail(`the channel that read the stream ${stream} was closed`));
    });
  } finally {
    stopTimer();
    await open.close();
  }
}

/** Stores a mark at the end of a stream; resolves to its id. */
export async function publishMark(
  { publisher, scheduler }: Pick<LogReaderSetup, 'publisher' | 'scheduler'>,
  stream: string,
): Promise<string> {
  const id = scheduler.uniqueName();
  const marked = await publisher.send('', stream, Buffer.alloc(0), {
    headers: { [wireHeaders.mark]: id },
    messageId: id,
  });
  if (!marked) throw new RivuletError('NOT_CONNECTED', `the stream ${stream} does not exist`);
  return id;
}

export function offsetOf(message: ConsumeMessage): number {
  return Number(message.properties.headers?.['x-stream-offset']);
}
