/**
 * Stores a dead letter within the server's limit on the size of a message.
 *
 * A message may be as large as the server allows, and its dead letter has more headers. If they do not
 * fit, they are left out in steps: first most of the reason, then everything except the origin, then
 * the origin too. Invariant: the message itself is never cut.
 */
import { deadLetterHeaders, type RawMessage, RivuletError } from 'rivulet/adapter';

const SHORT_REASON = 60;

/** Stores the fullest form that fits, and calls `onCut` with what was left out. */
export async function storeCut(
  dead: RawMessage,
  original: RawMessage,
  store: (message: RawMessage) => Promise<void>,
  onCut: (what: string) => void,
): Promise<void> {
  const reason = dead.headers[deadLetterHeaders.reason] ?? '';
  const short = `${reason.slice(0, SHORT_REASON)}... (cut)`;
  const { reason: _, attempts: __, time: ___, ...origin } = deadLetterHeaders;
  const forms: readonly (readonly [what: string, message: () => RawMessage])[] = [
    ['', () => dead],
    ['its whole reason', () => withHeader(dead, deadLetterHeaders.reason, short)],
    ['reason, attempts and time', () => only(dead, original, Object.values(origin))],
    ['any header of its origin', () => original],
  ];
  let failure: unknown;
  for (const [what, message] of forms) {
    try {
      await store(message());
      if (what !== '') onCut(what);
      return;
    } catch (error) {
      if (!(error instanceof RivuletError) || error.code !== 'BODY_TOO_LARGE') throw error;
      failure = error;
    }
  }
  throw failure;
}

function withHeader(message: RawMessage, name: string, value: string): RawMessage {
  return { ...message, headers: { ...message.headers, [name]: value } };
}

/** The original message with some headers of its dead letter. */
function only(dead: RawMessage, original: RawMessage, names: readonly string[]): RawMessage {
  const kept = names.map((name) => [name, dead.headers[name] ?? '']);
  return { ...original, headers: { ...original.headers, ...Object.fromEntries(kept) } };
}
