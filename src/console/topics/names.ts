/**
 * Names of topics, groups and consumers as the API writes them: text, both ways without loss.
 *
 * A name is its own text, but `~<base64url of its bytes>` where it is no UTF-8, begins with `~`, or is
 * empty, `.` or `..` (which a path would swallow). Invariant: different bytes have different texts.
 */
import { isUtf8 } from 'node:buffer';
import { isWellFormed } from '../../broker/message/text.ts';
import { RivuletError } from '../../errors.ts';

export function nameText(name: Buffer): string {
  const isPlain = name.length > 0 && name[0] !== TILDE && isUtf8(name);
  if (isPlain) {
    const text = name.toString();
    if (text !== '.' && text !== '..') return text;
  }
  return `~${name.toString('base64url')}`;
}

/** Throws INVALID_ARGUMENT where the text is no name. */
export function nameBytes(text: string): Buffer {
  if (!text.startsWith('~')) {
    if (text !== '' && isWellFormed(text)) return Buffer.from(text);
    throw new RivuletError('INVALID_ARGUMENT', 'a name is text in Unicode, at least one character');
  }
  const bytes = Buffer.from(text.slice(1), 'base64url');
  if (bytes.toString('base64url') === text.slice(1)) return bytes;
  throw new RivuletError('INVALID_ARGUMENT', 'a name that begins with ~ is ~ and base64url');
}

/**
 * Whether a topic is Rivulet's own: what begins with `_rivulet.`, the registrations of services, and the
 * journals and queues of workflows. `key` is the name as latin1.
 */
export function isInternal(key: string): boolean {
  return INTERNAL.some((prefix) => key.startsWith(prefix)) || key === REGISTRY;
}

const INTERNAL = ['_rivulet.', '{_rivulet.', 'wf:{'];
const REGISTRY = 'rivulet.registry';

const TILDE = 126;
