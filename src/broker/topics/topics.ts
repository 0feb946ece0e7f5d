/**
 * Names of topics and groups, and wildcard patterns over them.
 *
 * A topic is words separated by dots, as go-micro writes them: `orders.created`. A pattern may hold
 * `*` for exactly one word and, at its end, `>` for the rest (one word or more).
 * Cost: matching is linear in the words.
 */
import { RivuletError } from '../../errors.ts';

/** RabbitMQ's limit on a routing key, the tightest of the brokers'. */
const LONGEST_BYTES = 255;
/** Characters with a meaning on some broker: NATS and RabbitMQ wildcards, Redis hash tags, whitespace. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
const ILLEGAL = /[\s\u0000-\u001f\u007f*>#{}]/u;

/** Rejects with TOPIC_ILLEGAL what no broker could take as the name of one topic. */
export function checkTopic(topic: string): void {
  // Most publishes go where the last one went.
  if (topic === lastGood) return;
  checkLength(topic);
  for (const word of topic.split('.')) checkWord(topic, word);
  lastGood = topic;
}

let lastGood: string | null = null;

/** As checkTopic, allowing wildcards. */
export function checkPattern(pattern: string): void {
  checkLength(pattern);
  const words = pattern.split('.');
  words.forEach((word, index) => {
    if (word === '*') return;
    if (word === '>') {
      if (index !== words.length - 1) illegal(pattern, '">" may only be its last word');
      return;
    }
    checkWord(pattern, word);
  });
}

/** Groups are one word with the same alphabet as topics, dots included. */
export function checkGroup(group: string): void {
  if (group === '' || Buffer.byteLength(group) > LONGEST_BYTES || ILLEGAL.test(group)) {
    throw new RivuletError(
      'INVALID_ARGUMENT',
      `group ${JSON.stringify(group)} must be 1 to ${LONGEST_BYTES} bytes without spaces or any of * > # { }`,
    );
  }
}

export function isPattern(topic: string): boolean {
  return topic.includes('*') || topic.includes('>');
}

/** A function that returns whether a topic matches. Compile a pattern once and use it often. */
export function compilePattern(pattern: string): (topic: string) => boolean {
  if (!isPattern(pattern)) return (topic) => topic === pattern;
  const words = pattern.split('.');
  const open = words.at(-1) === '>';
  const fixed = open ? words.slice(0, -1) : words;
  return (topic) => {
    const given = topic.split('.');
    if (open ? given.length <= fixed.length : given.length !== fixed.length) return false;
    return fixed.every((word, index) => word === '*' || word === given[index]);
  };
}

function checkLength(name: string): void {
  if (name === '') illegal(name, 'it is empty');
  if (Buffer.byteLength(name) > LONGEST_BYTES) {
    illegal(`${name.slice(0, 32)}...`, `it is longer than ${LONGEST_BYTES} bytes`);
  }
}

function checkWord(name: string, word: string): void {
  if (word === '') illegal(name, 'a word between its dots is empty');
  const found = ILLEGAL.exec(word);
  if (found !== null) illegal(name, `${JSON.stringify(found[0])} may not be in it`);
}

function illegal(name: string, reason: string): never {
  throw new RivuletError('TOPIC_ILLEGAL', `topic ${JSON.stringify(name)}: ${reason}`);
}
