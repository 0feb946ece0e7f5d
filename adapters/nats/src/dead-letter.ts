/**
 * A dead letter that has to fit into what the server takes.
 *
 * A message may be as large as the server allows, and a dead letter is that message with headers of
 * ours. Where both together do not fit, what is ours is cut: first the reason, then all but the
 * origin, then the origin. Nothing of the message itself is ever cut.
 */
import { deadLetterHeaders, type Message, RivuletError } from 'rivulet';

const SHORT_REASON = 60;

/** Stores the fullest form that fits; `onCut` hears what had to be left out. */
export async function storeCut(
  dead: Message,
  original: Message,
  store: (message: Message) => Promise<void>,
  onCut: (what: string) => void,
): Promise<void> {
  const reason = dead.headers[deadLetterHeaders.reason] ?? '';
  const short = `${reason.slice(0, SHORT_REASON)}... (cut)`;
  const { reason: _, attempts: __, time: ___, ...origin } = deadLetterHeaders;
  const forms: readonly (readonly [what: string, message: () => Message])[] = [
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

function withHeader(message: Message, name: string, value: string): Message {
  return { ...message, headers: { ...message.headers, [name]: value } };
}

/** The original with some of the dead letter's headers. */
function only(dead: Message, original: Message, names: readonly string[]): Message {
  const kept = names.map((name) => [name, dead.headers[name] ?? '']);
  return { ...original, headers: { ...original.headers, ...Object.fromEntries(kept) } };
}
