/**
 * The routes of messages: a page of a topic, one message, its body, what is scheduled.
 */

import { decodeMessage } from '../../broker/message/entry.ts';
import { RivuletError } from '../../errors.ts';
import type { Decoder, EntryDetail, ScheduledPage } from '../api-types.ts';
import { RawReply } from '../http/reply.ts';
import type { Call, Router } from '../http/router.ts';
import { browse, positionOf } from '../messages/browse.ts';
import { decode } from '../messages/decode.ts';
import { contentType, entryDetail, PREVIEW, SHOWN_PART } from '../messages/entry-view.ts';
import { parseFilter } from '../messages/filter-parser.ts';
import type { RawEntry } from '../sources/commands.ts';
import type { ConsoleSource, Viewer } from '../sources/source.ts';
import { nameBytes } from '../topics/names.ts';
import { count, idOf, needed, oneOf } from './parameters.ts';
import type { Reading } from './reading.ts';
import { found } from './topics.ts';

const PAGE = 100;
const LARGEST_PAGE = 1000;
const DECODERS: readonly Decoder[] = ['auto', 'json', 'msgpack', 'text', 'hex', 'proto'];

export function entryRoutes(router: Router, source: ConsoleSource, reading: Reading): void {
  router.add('GET', 'topics/{topic}/entries', (call) => entriesPage(source, reading, call));
  router.add('GET', 'topics/{topic}/entries/{id}', async ({ account, viewer, params, query }) =>
    found(
      await oneEntry(source, viewer, nameBytes(params.topic!), await entryId(source, params), {
        setup: reading.setupFor(account),
        decoder: decoderOf(query),
      }),
      'message',
    ),
  );
  router.add('GET', 'topics/{topic}/entries/{id}/body', async ({ account, viewer, params }) => {
    const topic = nameBytes(params.topic!);
    const raw = found(
      await readEntry(source, viewer, topic, await entryId(source, params)),
      'message',
    );
    if (reading.setupFor(account).masks.hidesBodies) {
      throw new RivuletError('PERMISSION_DENIED', 'bodies hold values that are masked for you');
    }
    const { body } = decodeMessage(raw.fields);
    return new RawReply(200, body, {
      'content-type': 'application/octet-stream',
      // The name is ours: nothing of the message is in it.
      'content-disposition': `attachment; filename="${raw.id}.bin"`,
      'content-security-policy': "default-src 'none'; sandbox",
    });
  });
  router.add('GET', 'topics/{topic}/scheduled', (call) => scheduledPage(source, reading, call));
}

async function entriesPage(source: ConsoleSource, reading: Reading, call: Call) {
  const { account, viewer, params, query } = call;
  const where = query.get('where');
  const after = idOf(query.get('after'), 'after');
  const page = await browse(
    source,
    viewer,
    {
      topic: nameBytes(params.topic!),
      from: after ?? positionOf(query.get('from'), 'from'),
      isAfter: after !== null,
      to: positionOf(query.get('to'), 'to'),
      newest: query.get('newest') === '1',
      limit: count(query.get('limit'), 'limit', 1, LARGEST_PAGE, PAGE),
      where: where === null || where.trim() === '' ? null : parseFilter(where),
      decoder: decoderOf(query),
    },
    reading.setupFor(account),
  );
  return found(page, 'topic');
}

/** Null: there is no such message. */
export async function oneEntry(
  source: ConsoleSource,
  viewer: Viewer,
  topic: Buffer,
  id: string,
  { setup, decoder }: { setup: ReturnType<Reading['setupFor']>; decoder: Decoder },
): Promise<EntryDetail | null> {
  const read = needed(source, 'entries');
  // Of those beside it only the ids are wanted.
  const beside = { from: id, isAfter: true, to: null, limit: 1, cut: 0 };
  const [raw, before, after] = await Promise.all([
    readEntry(source, viewer, topic, id, SHOWN_PART),
    read(viewer, topic, { ...beside, newest: true }),
    read(viewer, topic, { ...beside, newest: false }),
  ]);
  if (raw === null) return null;
  return entryDetail(raw, topic, setup, decoder, {
    previousId: before[0]?.id ?? null,
    nextId: after[0]?.id ?? null,
  });
}

export async function readEntry(
  source: ConsoleSource,
  viewer: Viewer,
  topic: Buffer,
  id: string,
  cut?: number,
): Promise<RawEntry | null> {
  const range = {
    ...{ from: id, isAfter: false, to: id, newest: false, limit: 1 },
    ...(cut === undefined ? {} : { cut }),
  };
  const [raw] = await needed(source, 'entries')(viewer, topic, range);
  return raw?.id === id ? raw : null;
}

async function scheduledPage(
  source: ConsoleSource,
  reading: Reading,
  { account, viewer, params }: Call,
): Promise<ScheduledPage> {
  const topic = nameBytes(params.topic!);
  const setup = reading.setupFor(account);
  const { total, entries } = await needed(source, 'scheduled')(viewer, topic);
  return {
    total,
    entries: entries.map(({ number, dueAt, fields }) => {
      const message = decodeMessage(fields);
      const wish = {
        topic,
        contentType: contentType(message),
        decoder: 'auto' as const,
        limit: PREVIEW,
        isPretty: false,
      };
      return {
        number,
        dueAt,
        bytes: message.body.length,
        preview: decode(message.body, wish, setup),
      };
    }),
  };
}

function decoderOf(query: URLSearchParams): Decoder {
  return oneOf(query.get('decode'), 'decode', DECODERS, 'auto');
}

/** The id of the entry that a path names: by it, or by the id that its publisher has. */
export async function entryId(source: ConsoleSource, params: Call['params']): Promise<string> {
  const { topic = '', id = '' } = params;
  if (!OTHER_ID.test(id) || source.idOfMessage === undefined) return needId(id);
  const own = await source.idOfMessage(nameBytes(topic), id);
  if (own === null) throw new RivuletError('NOT_FOUND', 'the topic has no message with this id');
  return own;
}

/** Longer than `ms-seq`. */
const OTHER_ID = /^\d{13}-[\da-z]+-[\da-z]+$/;

function needId(text: string | undefined): string {
  const id = idOf(text ?? null, 'id');
  if (id === null) throw new RivuletError('INVALID_ARGUMENT', 'an id is needed');
  return id;
}
