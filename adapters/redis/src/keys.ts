/**
 * The keys of a topic.
 *
 * Invariants: a topic, its dead letters, its schedule and its groups' deadlines hash to one slot of Redis
 * Cluster, so that one script or transaction can change them together. The stream of `orders.created`
 * is the key `orders.created`; its other keys are `{orders.created}...`, whose hash tag selects the same
 * slot. A single server has the same names. Different parts make different keys: topics and groups
 * contain no braces, and the word after the first colon behind a brace says what the key is.
 */
import { checkTopic, compositeName } from 'rivulet/adapter';

const DEAD = '.dead';

export class Keys {
  readonly #prefix: string;
  /** On Rivulet's own server, which is one node: names as `rivulet://` has them. */
  readonly #plain: boolean;

  /** go-micro's own streams are called `stream-<topic>`. */
  constructor(goMicro: boolean, plain = false) {
    this.#prefix = goMicro ? 'stream-' : '';
    this.#plain = plain;
  }

  /** The stream that holds a topic's messages. */
  stream(topic: string): string {
    if (this.#plain) return this.#prefix + topic;
    const root = rootOf(topic);
    const key = this.#prefix + root;
    return root === topic ? key : `{${key}}${topic.slice(root.length)}`;
  }

  /** The topic of a stream's key; null for another program's key. */
  topic(key: string): string | null {
    const plain = key.startsWith('{') ? key.slice(1).replace('}', '') : key;
    if (!plain.startsWith(this.#prefix)) return null;
    const topic = plain.slice(this.#prefix.length);
    return isTopic(topic) && this.stream(topic) === key ? topic : null;
  }

  /** Sorted set: ids of pending messages with their own deadline, by that time. */
  deadlines(topic: string, group: string): string {
    return this.#beside(topic, `due:${group}`);
  }

  /** Sorted set: messages published with a delay, by their time. */
  schedule(topic: string): string {
    return this.#beside(topic, 'schedule');
  }

  /** Hash: publish ids within the window, and the entry of each. */
  publishIds(topic: string): string {
    return this.#beside(topic, 'ids');
  }

  /** Sorted set: the same ids, by the time at which they expire. */
  publishIdTimes(topic: string): string {
    return this.#beside(topic, 'ids-until');
  }

  /** String: the consumer that leads an ordered group. */
  leader(topic: string, group: string): string {
    if (this.#plain) return compositeName('leader', group, this.stream(topic));
    return this.#beside(topic, `leader:${group}`);
  }

  /** Whether the two topics share a slot under any prefix. */
  sameSlot(a: string, b: string): boolean {
    return rootOf(a) === rootOf(b);
  }

  #beside(topic: string, what: string): string {
    const root = rootOf(topic);
    return `{${this.#prefix}${root}}${topic.slice(root.length)}:${what}`;
  }
}

/** Set of all topics ever published to through this adapter. No topic has a brace in its name. */
export const TOPICS = '{rivulet}:topics';
/** Set of the topics that have had delayed messages. */
export const SCHEDULED = '{rivulet}:scheduled';

/** Another program's stream may have a name that no topic can have. */
function isTopic(name: string): boolean {
  try {
    checkTopic(name);
    return true;
  } catch {
    return false;
  }
}

function rootOf(topic: string): string {
  let root = topic;
  while (root.endsWith(DEAD) && root.length > DEAD.length) root = root.slice(0, -DEAD.length);
  return root;
}
