/**
 * Names of streams, consumers and this adapter's own subjects.
 *
 * A topic is a subject. Names of streams and consumers may not contain a dot: a dot becomes `_`, and any
 * other character except letters, digits and `-` becomes `=` and its bytes in hex. So different
 * names stay different. Invariant: a name has at most 200 bytes; a longer one ends in `=h` and a hash,
 * which no shorter name contains.
 */
import { createHash } from 'node:crypto';
import { RivuletError } from 'rivulet/adapter';

const MAX_BYTES = 200;

export const TOPIC_STREAM = 'RIVULET-T-';
export const SCHEDULE_STREAM = 'RIVULET-DELAYED';
export const LEAD_STREAM = 'RIVULET-LEAD';
/** The prefix of this adapter's own subjects. Topics may not begin with it, but for those of Rivulet. */
const PREFIX = '_rivulet.';
export const LEAD_SUBJECTS = `${PREFIX}lead.*.*`;
/** The clock's subject in the stream of leases. No encoded topic or group looks like this. */
export const CLOCK_SUBJECT = `${PREFIX}lead.=clock.=now`;
export const ATTEMPT_STREAM = 'RIVULET-ATTEMPTS';
export const ATTEMPT_SUBJECTS = `${PREFIX}attempts.*.*.*`;
export const SCHEDULE_SUBJECTS = `${PREFIX}delayed.*`;

export function streamOf(topic: string): string {
  return `${TOPIC_STREAM}${encode(topic)}`;
}

/** The topic of a stream; null if the name was too long to contain it, or is another program's. */
export function topicOf(stream: string): string | null {
  const topic = stream
    .slice(TOPIC_STREAM.length)
    .replaceAll('_', '.')
    .replace(/((?:=[0-9a-f]{2})+)/g, (run) =>
      Buffer.from(run.replaceAll('=', ''), 'hex').toString(),
    );
  return streamOf(topic) === stream ? topic : null;
}

/** The subject of a topic's delayed messages. */
export function scheduleSubject(topic: string): string {
  return `${PREFIX}delayed.${encode(topic)}`;
}

export function consumerOf(group: string): string {
  return encode(group);
}

export function leadSubject(topic: string, group: string): string {
  return `${PREFIX}lead.${encode(topic)}.${encode(group)}`;
}

export function attemptSubject(of: { topic: string; group: string; sequence: number }): string {
  return `${PREFIX}attempts.${encode(of.topic)}.${encode(of.group)}.${of.sequence}`;
}

/** The records of all messages of a topic in a group. */
export function attemptSubjects(topic: string, group: string): string {
  return `${PREFIX}attempts.${encode(topic)}.${encode(group)}.*`;
}

export function requestSubject(topic: string): string {
  return `${PREFIX}request.${topic}`;
}

export function cancelSubject(topic: string): string {
  return `${PREFIX}cancel.${topic}`;
}

export function inboxSubject(name: string): string {
  return `${PREFIX}inbox.${name}`;
}

/** Replies come from here while the nodes of a cluster learn of a responder of this inbox's process. */
export function readySubject(inbox: string): string {
  return inbox.replace(`${PREFIX}inbox.`, `${PREFIX}ready.`);
}

/** Rivulet's own topics, on every broker; no subject of this adapter has such a name. */
const OWN_TOPICS = /^_rivulet\.(audit|spans)$/;

/** Refuses topics that the server or this adapter reserves. */
export function refuseReserved(topic: string): void {
  if (OWN_TOPICS.test(topic) || !/^(\$|_INBOX\.|_rivulet\.|_R_\.)/.test(topic)) return;
  const text = `topic ${JSON.stringify(topic)} begins with a name that NATS or this adapter reserves`;
  throw new RivuletError('TOPIC_ILLEGAL', text);
}

function encode(name: string): string {
  const encoded = name.replace(/[^A-Za-z0-9-]/gu, (letter) =>
    letter === '.'
      ? '_'
      : [...Buffer.from(letter)].map((byte) => `=${byte.toString(16).padStart(2, '0')}`).join(''),
  );
  if (encoded.length <= MAX_BYTES) return encoded;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 32);
  return `${encoded.slice(0, MAX_BYTES - 34)}=h${hash}`;
}
