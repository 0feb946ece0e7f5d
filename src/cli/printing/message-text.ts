/**
 * A message as text: for people, as one JSON object, or by a format of the user's.
 *
 * JSON: `topic`, `id`, `time` (ISO 8601), `attempt`, `key`, `headers`, `body`; a body that is not UTF-8
 * is in `bodyBase64` instead. Invariant: the JSON form gives every byte back; the form for people
 * shows control characters as escapes.
 */
import { isUtf8 } from 'node:buffer';
import type { Message } from '../../broker/message/message.ts';
import { usage } from '../exit-code.ts';
import { type Output, printable, printableLines } from './output.ts';

export interface ShownMessage {
  readonly topic: string;
  readonly id: string;
  readonly publishedAt: Date | null;
  readonly attempt?: number;
  readonly message: Message;
}

export type MessageForm = 'people' | 'json' | 'raw' | { readonly format: string };

/** The form that the flags ask for. Throws where the format has an unknown letter. */
export function messageForm(flags: { json?: boolean; raw?: boolean; format?: string }) {
  const { json, raw, format } = flags;
  if ([json, raw, format].filter((each) => each !== undefined).length > 1) {
    throw usage('give one of --json, --raw and --format');
  }
  if (format !== undefined) {
    const unknown = /%(?![tikhbaT%])./.exec(format)?.[0];
    if (unknown !== undefined) throw usage(`--format knows no ${unknown}: ${FORMAT_LETTERS}`);
    return { format } satisfies MessageForm;
  }
  if (raw) return 'raw';
  return json ? 'json' : 'people';
}

export const FORMAT_LETTERS =
  '%t topic, %i id, %k key, %h headers, %b body, %T time, %a attempt, %% a percent sign, \\n and \\t';

export function printMessage(output: Output, shown: ShownMessage, form: MessageForm) {
  if (form === 'json') return output.item(messageJson(shown));
  if (form === 'raw') return printRaw(output, shown.message.body);
  if (form === 'people') return output.line(forPeople(shown));
  return output.write(formatted(shown, form.format, output.isTerminal));
}

async function printRaw(output: Output, body: Uint8Array | string): Promise<void> {
  await output.write(body);
  await output.write('\n');
}

function messageJson({ topic, id, publishedAt, attempt, message }: ShownMessage) {
  const bytes = bytesOf(message);
  return {
    topic,
    id,
    time: publishedAt?.toISOString() ?? null,
    ...(attempt === undefined ? {} : { attempt }),
    key: message.key ?? null,
    headers: message.headers ?? {},
    ...(isUtf8(bytes) ? { body: String(bytes) } : { bodyBase64: bytes.toString('base64') }),
  };
}

function forPeople({ topic, id, publishedAt, attempt, message }: ShownMessage): string {
  const { key } = message;
  const facts = [
    printable(topic),
    id,
    publishedAt === null ? null : publishedAt.toISOString(),
    key === undefined ? null : `key=${printable(key)}`,
    attempt === undefined || attempt < 2 ? null : `attempt ${attempt}`,
  ].filter((fact) => fact !== null);
  const headers = Object.entries(message.headers ?? {}).map(
    ([name, value]) => `${printable(name)}: ${printable(value)}\n`,
  );
  return `[${facts.join(' ')}]\n${headers.join('')}${bodyText(message)}\n`;
}

/** The body for a person: text, or how many bytes there are. */
function bodyText(message: Message): string {
  const bytes = bytesOf(message);
  return isUtf8(bytes) ? printableLines(String(bytes)) : `(${bytes.length} bytes, not text)`;
}

/** In a pipe the values as they are; on a terminal with their control characters as escapes. */
function formatted(
  { topic, id, publishedAt, attempt, message }: ShownMessage,
  format: string,
  isTerminal: boolean,
) {
  const parts: Readonly<Record<string, () => string>> = {
    '%t': () => topic,
    '%i': () => id,
    '%k': () => message.key ?? '',
    '%h': () => JSON.stringify(message.headers ?? {}),
    '%b': () => bytesOf(message).toString(),
    '%T': () => publishedAt?.toISOString() ?? '',
    '%a': () => String(attempt ?? ''),
    '%%': () => '%',
    '\\n': () => '\n',
    '\\t': () => '\t',
  };
  return format.replace(/%[tikhbaT%]|\\n|\\t/g, (letter) => {
    const text = (parts[letter] as () => string)();
    return isTerminal && letter.startsWith('%') ? printableLines(text) : text;
  });
}

function bytesOf({ body }: Message): Buffer {
  return typeof body === 'string'
    ? Buffer.from(body)
    : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}
