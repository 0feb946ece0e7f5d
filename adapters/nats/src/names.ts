/**
 * Names of streams, consumers and our own subjects.
 *
 * A topic is a subject. Its stream may not have a dot in its name, nor may a consumer: dots become
 * `_`, everything else that is not a letter, digit or `-` becomes `=` and its bytes in hex, so that
 * different names stay different. Invariant: at most 200 bytes; what would be longer ends in `=h` and a
 * hash, which no shorter name contains.
 */
import { createHash } from 'node:crypto';
import { RivuletError } from 'rivulet';

const MOST_BYTES = 200;

export const TOPIC_STREAM = 'RIVULET-T-';
export const SCHEDULE_STREAM = 'RIVULET-DELAYED';
export const LEAD_STREAM = 'RIVULET-LEAD';
/** Subjects of ours begin with this; topics may not. */
const OURS = '_rivulet.';
export const LEAD_SUBJECTS = `${OURS}lead.*.*`;
/** The clock's subject in the stream of leads: no topic and no group is written like this. */
export const CLOCK_SUBJECT = `${OURS}lead.=clock.=now`;
export const ATTEMPT_STREAM = 'RIVULET-ATTEMPTS';
export const ATTEMPT_SUBJECTS = `${OURS}attempts.*.*.*`;
export const SCHEDULE_SUBJECTS = `${OURS}delayed.*`;

export function streamOf(topic: string): string {
  return `${TOPIC_STREAM}${encode(topic)}`;
}

/** The topic of a stream of ours; null when its name does not say it, for its length or otherwise. */
export function topicOf(stream: string): string | null {
  const topic = stream
    .slice(TOPIC_STREAM.length)
    .replaceAll('_', '.')
    .replace(/((?:=[0-9a-f]{2})+)/g, (run) =>
      Buffer.from(run.replaceAll('=', ''), 'hex').toString(),
    );
  return streamOf(topic) === stream ? topic : null;
}

/** Where the delayed messages of a topic wait. */
export function scheduleSubject(topic: string): string {
  return `${OURS}delayed.${encode(topic)}`;
}

export function consumerOf(group: string): string {
  return encode(group);
}

export function leadSubject(topic: string, group: string): string {
  return `${OURS}lead.${encode(topic)}.${encode(group)}`;
}

export function attemptSubject(of: { topic: string; group: string; sequence: number }): string {
  return `${OURS}attempts.${encode(of.topic)}.${encode(of.group)}.${of.sequence}`;
}

export function requestSubject(topic: string): string {
  return `${OURS}request.${topic}`;
}

export function cancelSubject(topic: string): string {
  return `${OURS}cancel.${topic}`;
}

export function inboxSubject(name: string): string {
  return `${OURS}inbox.${name}`;
}

/** Answered while a responder of the process with this inbox is being announced to a cluster. */
export function readySubject(inbox: string): string {
  return inbox.replace(`${OURS}inbox.`, `${OURS}ready.`);
}

/** What the server keeps for itself, and we. */
export function refuseReserved(topic: string): void {
  if (!/^(\$|_INBOX\.|_rivulet\.|_R_\.)/.test(topic)) return;
  const text = `topic ${JSON.stringify(topic)}: NATS keeps names that begin like this for itself`;
  throw new RivuletError('TOPIC_ILLEGAL', text);
}

function encode(name: string): string {
  const encoded = name.replace(/[^A-Za-z0-9-]/gu, (letter) =>
    letter === '.'
      ? '_'
      : [...Buffer.from(letter)].map((byte) => `=${byte.toString(16).padStart(2, '0')}`).join(''),
  );
  if (encoded.length <= MOST_BYTES) return encoded;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 32);
  return `${encoded.slice(0, MOST_BYTES - 34)}=h${hash}`;
}
